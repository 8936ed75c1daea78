"""Building a bundle's engines: ahead of time, or when a tracker asks for one, with a bar while it lasts."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jntrt.runtime.bundle import Bundle
from jntrt.runtime.bundle.manifest import GRAPHS
from jntrt.runtime.command.progress import progress_bar
from jntrt.runtime.engines.options import EngineOptions
from jntrt.runtime.engines.tensorrt.build import FLAVOURS, BuildOptions
from jntrt.runtime.engines.tensorrt.build import Progress as BuildProgress
from jntrt.runtime.engines.tensorrt.cache import EngineCache
from jntrt.runtime.engines.tensorrt.signing import create_secret
from jntrt.runtime.errors import UserError


@dataclass(frozen=True)
class BuiltEngine:
    """One engine of a bundle in the cache. `parity`: what its gate measured, `seconds`: for both graphs."""

    graph: str
    precision: str
    backend: str
    path: str
    bytes: int
    parity: str
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@contextmanager
def build_bar() -> Iterator[BuildProgress]:
    """What a build is to tell its steps to: a bar where stderr is a terminal, shown when a build begins."""
    bar = progress_bar("building: {task.description}")
    tasks: dict[str, Any] = {}

    def step(phase: str, done: int, count: int) -> bool:
        if not tasks:
            bar.start()
        if phase not in tasks:
            tasks[phase] = bar.add_task(phase.lower()[:40], total=count)
        bar.update(tasks[phase], completed=done, visible=done < count)
        return True

    try:
        yield step
    finally:
        if tasks:
            bar.stop()


def build_engine(
    bundle: Bundle,
    precision: str,
    backend: str = "tensorrt",
    options: BuildOptions | None = None,
    device: int = 0,
    engine_key: Path | None = None,
) -> list[BuiltEngine]:
    """Put both engines of a bundle's precision into the cache, built and gated where they are not there yet.

    precision: one of the bundle's, or `auto`. device: the number of the GPU that they are for.
    engine_key: the file of a fleet's key, made where there is none; None: this machine's own.

    Raises UserError where that backend cannot run here (an engine is for the GPU that it was built on) or the
    build fails, GateError when the engines compute something else than their graphs.
    """
    from jntrt.runtime.engines.auto import resolve
    from jntrt.runtime.engines.device import shared_device
    from jntrt.runtime.engines.tensorrt import gate as engine_gate

    if backend not in FLAVOURS:
        raise UserError(f"backend {backend} has no engines to build: take {' or '.join(FLAVOURS)}")
    wanted = resolve(bundle, precision, backend, device).precision
    if engine_key is not None:
        create_secret(engine_key)
    begin = time.perf_counter()
    gpu = shared_device(device)
    with build_bar() as progress, gpu.current():
        given = EngineOptions(
            device=device, build=options or BuildOptions(), progress=progress, engine_key=engine_key
        )
        verdict, engines = engine_gate.ensure(bundle, wanted, backend, gpu.info, given)
    cache = EngineCache.open(engine_key)
    return [
        BuiltEngine(
            graph=graph,
            precision=wanted.name,
            backend=backend,
            path=str(cache.engine_path(key)),
            bytes=len(engine.plan),
            parity=verdict["text"],
            seconds=time.perf_counter() - begin,
        )
        for graph, (key, engine) in zip(GRAPHS, engines, strict=True)
    ]


def print_engines(engines: list[BuiltEngine]) -> None:
    """A table on stdout."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{engines[0].backend} engines, {engines[0].precision}")
    table.add_column("graph")
    table.add_column("MB", justify="right")
    table.add_column("file", overflow="fold")
    for engine in engines:
        table.add_row(engine.graph, f"{engine.bytes / 1e6:.1f}", engine.path)
    console = Console()
    console.print(table)
    console.print(f"parity with the bundle's samples: {engines[0].parity}")
    console.print(f"{engines[-1].seconds:.0f} s")
