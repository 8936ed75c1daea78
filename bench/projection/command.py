"""bench-jn project: a bundle on a GPU that is not here."""

from pathlib import Path

from cyclopts import App

from jntrt.runtime.errors import UserError


def add_project(app: App) -> None:
    """Make `project` a sub-command of `app`."""
    app.command(project, name="project")


def project(
    bundle: str,
    /,
    *,
    card: str = "rtx2080ti",
    measured: Path | None = None,
    measured_on: str = "",
    precision: str = "fp16",
    json: bool = False,
) -> None:
    """Project the network's time on a GPU that is not here, with an interval and how wrong it has been.

    Measured, published and projected numbers stand apart. docs/projection.md says how it is done.

    Parameters
    ----------
    bundle
        A bundle's folder or a packaged one's name.
    card
        rtx2080ti, rtx2060, rtx2060super, a30, a100 or t4.
    measured
        A JSON file of this bundle's layers on a GPU: "layers", each with name and ms. They are scaled too.
    measured_on
        The card that they were measured on.
    precision
        The precision that they were measured in.
    json
        Print everything as JSON instead of tables.
    """
    from rich.console import Console

    from jntrt.bench.projection.project import project as project_bundle
    from jntrt.bench.projection.project import read_measured
    from jntrt.bench.projection.report import print_report, report
    from jntrt.bench.tables import WIDTH
    from jntrt.runtime.bundle import open_bundle
    from jntrt.runtime.command.console import print_json

    if (measured is None) != (not measured_on):
        raise UserError("--measured FILE and --measured-on CARD: give both, or neither")
    opened = open_bundle(bundle)
    layers = read_measured(measured, measured_on, precision) if measured else None
    found = project_bundle(opened, card, layers)
    if json:
        print_json(report(opened, found, layers))
    else:
        print_report(opened, found, layers, Console(width=WIDTH))
