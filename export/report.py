"""What export-jn prints."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from jntrt.runtime.bundle import Bundle

if TYPE_CHECKING:
    from jntrt.export.families.contract import Supported
    from jntrt.export.pipeline import ExportResult


class Progress:
    """One line on a terminal's stderr that says what is going on; nothing elsewhere."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._status = self._console.status("")

    def __enter__(self) -> Progress:
        if self._console.is_terminal:
            self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._status.stop()

    def __call__(self, step: str) -> None:
        """Shows `step`."""
        self._status.update(escape(step))


def printable(text: str) -> str:
    """`text` with _ for what could steer a terminal or cannot be encoded; files name things as they like."""
    return "".join(c if c.isprintable() else "_" for c in text)


def print_result(result: ExportResult) -> None:
    """What was inferred and from what, which weights had no use, the check's figures, where the bundle is."""
    table = _table("", "value", "from")
    for what, value, source in result.inferred.rows:
        table.add_row(_plain(what), _plain(value), _plain(source))
    console = _console()
    console.print(table)
    for title, names in (("unused", result.unused), ("skipped, no dense tensors", result.skipped)):
        if names:
            console.print(_plain(f"{title}: {_some(names)}"))
    if result.foreign:
        console.print(_plain(f"named in the file and not looked up: {_some(result.foreign)}"))
    macs, check = result.manifest["macs"], result.manifest["precisions"]["fp32"]["check"]
    console.print(f"MACs per frame: {_giga(macs['fast'])}, plain form {_giga(macs['plain'])}")
    console.print(
        f"largest difference from PyTorch: box {check['box']:.1e}, score {check['score']:.1e} "
        f"({check['samples']} drawn crops)"
    )
    console.print(_plain(f"bundle: {result.path}"), soft_wrap=True)
    if not_known := result.inferred.not_known:
        console.print(
            _plain(f"not known: {', '.join(not_known)}; flags of these names say them"), soft_wrap=True
        )


def print_bundle(bundle: Bundle) -> None:
    """The manifest as tables."""
    console, manifest = _console(), bundle.manifest
    table = _table("", _plain(bundle.name))
    source, recipe = manifest.get("source", {}), bundle.recipe
    for what, value in (
        ("family", bundle.family),
        ("batch", bundle.batch),
        ("weights", manifest.get("weights", "unknown")),
        ("license", manifest.get("license", "unknown")),
        ("template crop", str(bundle.template)),
        ("search crop", str(bundle.search)),
        ("presence threshold", f"{bundle.presence_threshold:g}"),
        *((key.replace("_", " "), _value(value)) for key, value in recipe.items() if key not in _SHOWN_ABOVE),
        ("MACs per frame", _macs(manifest.get("macs"))),
        *((f"source: {key}", value) for key, value in _items(source)),
    ):
        table.add_row(_plain(str(what)), _plain(_value(value)))
    console.print(table)
    files = _table("precision", "graph", "file", "MB", "sha256", "check or gate")
    for precision in bundle.precisions:
        entry = bundle.entry(precision)
        for graph in ("template", "track"):
            told = (
                (_gate(entry["gate"]) if "gate" in entry else _figures(entry.get("check")))
                if graph == "track"
                else ""
            )
            row = (precision, graph, entry[graph]["file"], f"{entry[graph]['bytes'] / 1e6:.1f}")
            files.add_row(*map(_plain, (*row, entry[graph]["sha256"][:12], told)))
    console.print(files)


def print_supported(supported: Sequence[tuple[str, Supported]]) -> None:
    """One block for each tracker, with the family that exports it."""
    console = _console()
    for name, one in supported:
        console.print(_plain(f"{one.tracker} (family {name})"))
        for what, value in (
            ("shown by", one.shown),
            ("to be said", one.told),
            ("licence of the code", one.code_license),
            ("published speed", one.speed),
        ):
            console.print(_plain(f"  {what}: {value}"), soft_wrap=True)


def print_checks(path: str, checks: Sequence[tuple[str, str, str]]) -> None:
    """One row for each thing that was checked."""
    table = _table("precision", "checked", "result")
    for row in checks:
        table.add_row(*map(_plain, row))
    _console().print(table)
    _console().print(_plain(f"{path}: whole"), soft_wrap=True)


_SHOWN_ABOVE = {"family", "template_size", "template_factor", "search_size", "search_factor"}


def _console() -> Console:
    return Console(highlight=False, emoji=False)


def _plain(text: str) -> str:
    """`text` for rich: nothing in it is markup or a control character."""
    return escape(printable(text))


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _value(value: object) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value)) or "none"
    return str(value)


def _items(value: object) -> list[tuple[str, str]]:
    return [(str(k), str(v)) for k, v in value.items()] if isinstance(value, dict) else []


def _figures(value: object) -> str:
    """A check's or gate's numbers in short."""
    if not isinstance(value, dict):
        return "none"
    figures = ((k, f"{v:.1e}" if isinstance(v, float) else str(v)) for k, v in value.items())
    pairs = [(k, v) for k, v in figures if len(v) <= 12][:6]
    return ", ".join(f"{k} {v}" for k, v in pairs)


def _gate(gate: object) -> str:
    """What calib-jn's gate said of a precision."""
    if not isinstance(gate, dict):
        return "none"
    told = "passed its gate" if gate.get("passed") is True else "failed its gate"
    for section, key, name in (("crops", "median_iou", "median IoU"), ("sequences", "difference", "AO")):
        value = gate[section].get(key) if isinstance(gate.get(section), dict) else None
        if isinstance(value, float):
            told += f", {name} {value:.4f}" if section == "crops" else f", {name} {value:+.4f}"
    return told


def _macs(macs: Any) -> str:
    if not isinstance(macs, dict) or not all(isinstance(macs.get(k), int) for k in ("fast", "plain")):
        return "unknown"
    return f"{_giga(macs['fast'])}, plain form {_giga(macs['plain'])}"


def _giga(count: int) -> str:
    return f"{count / 1e9:.2f} G"


def _some(names: Sequence[str], limit: int = 12) -> str:
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")
