"""What the engine cache holds: a list of it, and getting rid of what nobody uses."""

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jntrt.runtime.engines.tensorrt.cache import MAX_MANIFEST, EngineCache

DAY = 86400.0  # seconds


@dataclass(frozen=True)
class Kept:
    """An engine in the cache, or what is left of one. `used`: when it was read last, in seconds since 1970.

    `graph`: of which bundle, "?" where its manifest does not say. A manifest is believed here for showing
    alone.
    """

    name: str
    graph: str
    backend: str
    precision: str
    gpu: str
    bytes: int
    used: float

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def kept_engines(cache: EngineCache) -> list[Kept]:
    """What lies in the cache, the last used first."""
    names = {path.stem for pattern in ("*.engine", "*.json") for path in cache.root.glob(pattern)}
    return sorted((_look(cache.root, name) for name in names), key=lambda kept: (-kept.used, kept.name))


def prune(cache: EngineCache, days: float) -> list[Kept]:
    """Removes the engines that were not used for `days` days; which those were."""
    latest = time.time() - days * DAY
    unused = [kept for kept in kept_engines(cache) if kept.used <= latest]
    for kept in unused:
        cache.remove(kept.name)
    return unused


def _look(root: Path, name: str) -> Kept:
    manifest, files = root / f"{name}.json", [root / f"{name}.json", root / f"{name}.engine"]
    try:
        with manifest.open("rb") as stream:
            facts = json.loads(stream.read(MAX_MANIFEST))
        key = facts["key"]
        graph, precision, gpu = str(facts.get("graph", "?")), str(key["precision"]), str(key["gpu"])
        backend = f"{key['flavour']} {key['version']}"
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        graph = backend = precision = gpu = "?"
    there = [file.stat() for file in files if file.exists()]
    return Kept(
        name=name,
        graph=graph,
        backend=backend,
        precision=precision,
        gpu=gpu,
        bytes=sum(status.st_size for status in there),
        used=max(status.st_mtime for status in there),
    )


def print_kept(cache: EngineCache, engines: list[Kept], title: str) -> None:
    """A table of them."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{title}, {sum(kept.bytes for kept in engines) / 1e6:.1f} MB in {cache.root}")
    for heading in ("graph", "backend", "precision", "GPU", "MB", "days unused"):
        table.add_column(heading, justify="right" if heading in ("MB", "days unused") else "left")
    for kept in engines:
        unused = f"{max(0.0, time.time() - kept.used) / DAY:.1f}"
        table.add_row(kept.graph, kept.backend, kept.precision, kept.gpu, f"{kept.bytes / 1e6:.1f}", unused)
    Console().print(table)
