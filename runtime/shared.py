"""One engine for many trackers of a process."""

from types import TracebackType
from typing import Any, Self

from jntrt.runtime.bundle import Bundle
from jntrt.runtime.engines import open_pair
from jntrt.runtime.engines.options import EngineOptions
from jntrt.runtime.engines.pair import Pair
from jntrt.runtime.engines.precision import find_precision
from jntrt.runtime.tracker import Tracker


class SharedEngine:
    """A bundle's graphs, open once; every tracker of it has a state and a template's memory of its own.

    Trackers may run on several threads at once. On a GPU, where the memory of a target is the engine's, each
    tracker opens engines of its own. A context manager; close it after its trackers.
    """

    def __init__(
        self,
        bundle: Bundle,
        backend: str = "auto",
        precision: str = "fp32",
        options: EngineOptions | None = None,
    ) -> None:
        """Opens the engine. Raises UserError as `Tracker.from_bundle` does."""
        self.bundle = bundle
        self._precision, self._options = precision, options or EngineOptions()
        self._pair, choice = open_pair(bundle, find_precision(precision), self._options, backend)
        self.backend, self.choice = choice.name, str(choice)
        probe = self._pair.loop(bundle, swap=False)
        self.on_device = probe.on_device
        probe.close()

    def tracker(self, color: str = "rgb") -> Tracker:
        """One more tracker; closing it leaves the engine open. `color`: rgb or bgr."""
        if self.on_device:
            return Tracker.from_bundle(
                self.bundle, self.backend, self._precision, color=color, options=self._options
            )
        return Tracker(self.bundle, _Borrowed(self._pair), color=color, choice=self.choice)

    def describe(self) -> dict[str, Any]:
        """What the engine says of itself."""
        return self._pair.describe()

    def close(self) -> None:
        """Let the engine go."""
        self._pair.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Borrowed(Pair):
    """A pair that belongs to somebody else."""

    def __init__(self, pair: Pair) -> None:
        super().__init__(pair.template, pair.track)

    def close(self) -> None:
        """Leaves both open."""
