"""The rows of the check on a GPU: kept in a file as they come, shown as a table."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jntrt.bench.gpu.loop import WAYS, Figures
from jntrt.bench.latency.drawn_video import HEIGHT, WIDTH
from jntrt.runtime.errors import UserError

EAGER = "torch eager fp16"
# Milliseconds beside the network alone, and times PyTorch eager.
AIMS = {"device frame": 0.05, "host frame": 0.15, "eager": 5.0}


@dataclass(frozen=True)
class Row:
    """One engine: its times, and how far its boxes are from the CPU's fp32 ones, in pixels at most."""

    bundle: str
    engine: str
    launch: str
    times: Figures
    worst_px: float | None


class RowFile:
    """Rows measured on one device, a JSON line each, on the disk before the next one is begun."""

    def __init__(self, path: Path, device: dict[str, Any]) -> None:
        """Rows of `device` that `path` holds already are there from the start."""
        self.path, self._device = path, json.loads(json.dumps(device))
        self._rows: dict[tuple[str, str, str], Row] = {}  # by the bundle's digest, the engine, the graph
        if not path.exists():
            return
        lines = path.read_text().splitlines()
        for number, line in enumerate(lines, start=1):
            try:
                values = json.loads(line)
                if values.pop("device") == self._device:
                    key = (values.pop("sha256"), values["bundle"], values["engine"])
                    self._rows[key] = Row(**values)
            except (ValueError, KeyError, TypeError, AttributeError):
                if number < len(lines):
                    raise UserError(f"{path}: line {number} is no row: name another folder") from None
                # The last one's run was ended in it: it is measured again, in that line's place.
                path.write_text("".join(f"{row}\n" for row in lines[:-1]))

    def find(self, sha256: str, bundle: str, engine: str) -> Row | None:
        """The row of an engine, where it was measured."""
        return self._rows.get((sha256, bundle, engine))

    def add(self, sha256: str, row: Row) -> None:
        """Keeps a row. Raises UserError where the file cannot be written."""
        line = json.dumps({"device": self._device, "sha256": sha256, **asdict(row)})
        try:
            with self.path.open("a") as stream:
                stream.write(f"{line}\n")
        except OSError as error:
            raise UserError(f"{self.path}: cannot be written ({error.strerror})") from error
        self._rows[(sha256, row.bundle, row.engine)] = row


def line_of(row: Row) -> str:
    """A row in one line, as it comes."""
    times = [
        f"{name} {time[0]:.3f} / {time[1]:.3f}"
        for name, time in zip(WAYS, row.times, strict=True)
        if time is not None
    ]
    off = "" if row.worst_px is None else f", {row.worst_px:.3f} px off the CPU"
    return f"{row.bundle} {row.engine}: {', '.join(times)} ms{off}; launched as {row.launch}"


def print_rows(rows: list[Row]) -> None:
    """The table, 80 columns and more."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"milliseconds, p50 / p99, {WIDTH}×{HEIGHT}, batch as the bundle's")
    for heading in ("bundle", "engine", *WAYS, "px off CPU"):
        table.add_column(heading, justify="left" if heading in ("bundle", "engine") else "right")
    for row in rows:
        texts = ["–" if time is None else f"{time[0]:.3f} / {time[1]:.3f}" for time in row.times]
        table.add_row(row.bundle, row.engine, *texts, "–" if row.worst_px is None else f"{row.worst_px:.3f}")
    console = Console()
    console.print(table)
    for line in aims(rows):
        console.print(line, soft_wrap=True)


def aims(rows: list[Row]) -> list[str]:
    """What each engine reached beside what was aimed at, medians: a line each."""
    eager = {row.bundle: row.times[-1] for row in rows if row.engine == EAGER}
    lines = []
    for row in rows:
        device, host, _, _, network = row.times
        if device is None or host is None or network is None:
            continue
        text = f"{row.bundle} {row.engine}"
        for name, time in (("device frame", device), ("host frame", host)):
            text += f"; {name} = network {time[0] - network[0]:+.3f} ms (aim: at most {AIMS[name]})"
        whole = eager.get(row.bundle)
        if whole is not None:
            text += f"; {whole[0] / device[0]:.1f} times PyTorch eager (aim: at least {AIMS['eager']:.0f})"
        lines.append(text)
    return lines
