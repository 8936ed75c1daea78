"""A bundle's two graphs in an engine, and the loop that runs them."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

from typing_extensions import Self

from jntrt.runtime.bundle import Bundle
from jntrt.runtime.bundle.manifest import GRAPHS
from jntrt.runtime.engines.graph.graph_check import check_graph_file
from jntrt.runtime.engines.options import EngineOptions
from jntrt.runtime.engines.precision import Precision
from jntrt.runtime.loops import HostLoop, Loop


class Network(Protocol):
    """One graph in an engine."""

    name: str

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """All outputs by name. Arrays in and out; memory tensors may be the engine's own objects."""

    def describe(self) -> dict[str, Any]:
        """What a figure has to say about the engine: name, version, device, threads, options."""

    def share(self) -> Self:
        """The same graph for another caller, in another thread perhaps: the weights are there once, what a
        call writes is each one's own. Both are closed."""

    def close(self) -> None:
        """Lets the engine and its memory go; harmless when done twice."""


class Pair:
    """The template and the track graph, open. Whoever opened it closes it."""

    def __init__(self, template: Network, track: Network) -> None:
        self.template, self.track = template, track

    def loop(self, bundle: Bundle, *, swap: bool) -> Loop:
        """The loop around them. `swap`: frames are BGR."""
        return HostLoop(self.template, self.track, bundle, swap=swap)

    def describe(self) -> dict[str, Any]:
        """What a figure has to say about the engine."""
        return self.track.describe()

    def share(self) -> Self:
        """The same graphs for another tracker, which closes what it gets."""
        return type(self)(self.template.share(), self.track.share())

    def close(self) -> None:
        """Lets both go."""
        self.template.close()
        self.track.close()


_Network = TypeVar("_Network", bound=Network)


def open_graphs(
    engine: Callable[[Path, Precision, EngineOptions], _Network],
    bundle: Bundle,
    precision: Precision,
    options: EngineOptions,
) -> tuple[_Network, _Network]:
    """Template and track graph of a bundle, each opened by `engine` once its file was looked at.

    Raises UserError for a file or graph that no engine may see, and as the engine does.
    """
    files = [bundle.graph(graph, precision.stored) for graph in GRAPHS]
    for file in files:
        check_graph_file(file)
    template = engine(files[0], precision, options)
    try:
        return template, engine(files[1], precision, options)
    except BaseException:
        template.close()
        raise
