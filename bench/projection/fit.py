"""The constants of the model from published points, and how far off it is on GPUs that it has not seen."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

from jntrt.bench.cards import CARDS, Card
from jntrt.bench.projection.kernels import Constants, Kernel, network_ms
from jntrt.bench.projection.published import POINTS, Point
from jntrt.bench.projection.scaling import scale

LIBRARY = "TensorRT"  # whose launches a projection assumes
NINE_TENTHS = 1.64  # standard deviations that hold 90 % of a normal distribution
_EFFICIENCIES = tuple(step / 100 for step in range(20, 100, 2))
_LAUNCHES = tuple(step * 0.25e-6 for step in range(81))  # seconds


@dataclass(frozen=True)
class Fit:
    """`residual`: the root mean square of ln(projected / published) over the points it was fitted to."""

    efficiency: float
    launches: dict[str, float]
    residual: float

    def constants(self, library: str) -> Constants:
        """Those of a library's kernels; of TensorRT for one that was not fitted."""
        return Constants(self.efficiency, self.launches.get(library, self.launches[LIBRARY]))


def fit(points: Iterable[Point]) -> Fit:
    """The least squares of the logarithms: one efficiency, and a launch time for each library.

    Of the T4 and the Ampere cards both kinds of sums run at one rate, so that `fp32_sums` does not matter.
    """
    fitted = [point for point in points if point.library != "AITemplate"]
    best = Fit(0.0, {}, math.inf)
    for efficiency in _EFFICIENCIES:
        launches, squares = {}, 0.0
        for library in {point.library for point in fitted}:
            own = [point for point in fitted if point.library == library]
            works = [_work(point, efficiency) for point in own]
            error, launches[library] = min((_squares(own, works, launch), launch) for launch in _LAUNCHES)
            squares += error
        residual = math.sqrt(squares / len(fitted))
        if residual < best.residual:
            best = Fit(efficiency, launches, residual)
    return best


@cache
def fits(unseen: str = "") -> dict[str, Fit]:
    """The fit to all points, by the name "", and those that have not seen one GPU, by its name.

    unseen: a GPU that none of them sees.
    """
    points = [point for point in POINTS if point.card != unseen]
    cards = sorted({point.card for point in points})
    return {"": fit(points)} | {card: fit(p for p in points if p.card != card) for card in cards}


@dataclass(frozen=True)
class Interval:
    """Milliseconds: `ms` of the fit to all points; `low` and `high` of the fastest and the slowest fit (to
    all points, and without each GPU), widened by what the points scatter around the fit.

    The fit without the T4 takes its slowness for its power limit, the others take it for Turing's.
    """

    ms: float
    low: float
    high: float


def interval(
    kernels: Sequence[Kernel], card: Card, *, fp32_sums: bool, library: str = LIBRARY, unseen: str = ""
) -> Interval:
    """Kernels on a card; `unseen`: by fits of which none has seen that GPU."""
    chosen = fits(unseen)
    times = {
        name: network_ms(kernels, card, found.constants(library), fp32_sums=fp32_sums)
        for name, found in chosen.items()
    }
    spread = math.exp(NINE_TENTHS * chosen[""].residual)
    return Interval(times[""], min(times.values()) / spread, max(times.values()) * spread)


@dataclass(frozen=True)
class Tested:
    """A point as projected by the fit that has not seen its GPU; `origin`: scaled from the same network's
    time there, None: from its products alone. `by_waves`: by Habitat's wave scaling of that time. `interval`:
    of the projection from products."""

    point: Point
    origin: Point | None
    projected: float
    by_waves: float | None = None
    interval: Interval | None = None

    @property
    def error(self) -> float:
        """0.1: ten per cent too slow."""
        return self.projected / self.point.ms - 1

    @property
    def inside(self) -> bool:
        """Whether the interval holds what was published."""
        return self.interval is not None and self.interval.low <= self.point.ms <= self.interval.high


@cache
def back_test() -> tuple[Tested, ...]:
    """Every point from its products alone, and every ordered pair of points of one network and library."""
    tested = []
    for point in POINTS:
        card, library = CARDS[point.card], point.library
        expected = interval(point.kernels, card, fp32_sums=True, library=library, unseen=point.card)
        tested.append(Tested(point, None, expected.ms, interval=expected))
        constants = fits()[point.card].constants(library)
        for origin in POINTS:
            if _same_network(origin, point):
                there = network_ms(point.kernels, CARDS[origin.card], constants, fp32_sums=True)
                waves = _by_waves(origin, point, constants)
                tested.append(Tested(point, origin, origin.ms * expected.ms / there, waves))
    return tuple(tested)


def widening(share: float = 0.9) -> float:
    """By what factor both ends of the intervals without a point's GPU would have to move away from their
    middle to hold this share of the points."""
    needed = sorted(
        max(tested.interval.low / tested.point.ms, tested.point.ms / tested.interval.high, 1.0)
        for tested in back_test()
        if tested.interval
    )
    return needed[math.ceil(share * len(needed)) - 1]


def pairs_residual(*, by_waves: bool = False) -> float:
    """The root mean square of ln(projected / published) over the tested pairs."""
    pairs = [tested for tested in back_test() if tested.origin]
    times = [tested.by_waves if by_waves else tested.projected for tested in pairs]
    squares = [math.log((ms or 0) / tested.point.ms) ** 2 for ms, tested in zip(times, pairs, strict=True)]
    return math.sqrt(sum(squares) / len(squares))


def _same_network(origin: Point, point: Point) -> bool:
    same = (origin.network, origin.library, origin.int8) == (point.network, point.library, point.int8)
    return same and origin.card != point.card


def _by_waves(origin: Point, point: Point, constants: Constants) -> float:
    """Each kernel's share of the origin's time, scaled by itself."""
    kernels, there, here = origin.kernels, CARDS[origin.card], CARDS[point.card]
    shares = [network_ms([kernel], there, constants, fp32_sums=True) for kernel in kernels]
    stretch = origin.ms / sum(shares)
    return sum(
        scale(share * stretch, kernel, there, here, launch_ms=1e3 * constants.launch, fp32_sums=True)
        for kernel, share in zip(kernels, shares, strict=True)
    )


def _work(point: Point, efficiency: float) -> tuple[float, int]:
    """Milliseconds of a point's work, and its launches."""
    kernels = point.kernels
    return network_ms(kernels, CARDS[point.card], Constants(efficiency, 0.0), fp32_sums=True), len(kernels)


def _squares(points: Sequence[Point], works: Sequence[tuple[float, int]], launch: float) -> float:
    return sum(
        math.log((work + 1e3 * launch * count) / point.ms) ** 2
        for point, (work, count) in zip(points, works, strict=True)
    )
