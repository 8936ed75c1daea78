"""trtrun doctor: what can run here and what cannot."""

from cyclopts import App


def add_doctor(app: App) -> None:
    """Make `doctor` a sub-command of `app`."""
    app.command(doctor, name="doctor")


def doctor(*, json: bool = False) -> int:
    """Say what can run here and what cannot, and the command that mends it.

    Every engine that claims to work tracks for a second in each precision that the packaged bundle can be
    read in. A library that is missing, too old or broken is a row. Exit code 2 where nothing can track. Where
    trtrun itself does not start: python -m jntrt.runtime.trtrun.doctor.

    Parameters
    ----------
    json:
        One JSON object on stdout, for a bug report.
    """
    from jntrt.runtime.trtrun.doctor.report import report

    return report(json=json)
