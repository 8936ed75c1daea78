"""How a report writes numbers and names, and what it says of its method."""

from jntrt.bench.conditions import MAX_SLOWDOWN, MAX_SPREAD
from jntrt.bench.machine import MAX_OTHERS, MAX_STEAL

METHOD = (
    "Every engine runs in a process of its own, idle on a pipe; they are called in turn, round after round,"
    " so that a change of the machine meets all of them. One untimed frame goes before each call. The target"
    " is put back before every frame: all engines crop the same pixels, whatever their network says.",
    "After each frame a fixed product is timed in NumPy. Runs at different times are compared through it."
    " Frames that follow each other are alike, so that intervals and tests take rounds, never frames.",
    f"A verdict is quiet, or says what was wrong: noisy (other processes above {MAX_OTHERS:.0%} of the CPU"
    f" time, a hypervisor above {MAX_STEAL:.0%}, or rounds that differ by more than ±{MAX_SPREAD:.0%}),"
    f" throttled (a lower clock, or a product that takes {MAX_SLOWDOWN:.0%} longer at the end), bound by"
    " decoding (a frame takes longer to decode than to track).",
)


def counted(number: int, what: str) -> str:
    """1 clip, 2 clips."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def time_of(ms: float | None) -> str:
    """Milliseconds with no more digits than they have."""
    if ms is None:
        return "-"
    return f"{ms:.3f}" if ms < 1 else f"{ms:.2f}" if ms < 100 else f"{ms:.0f}"


def fps_of(ms: float | None) -> str:
    """Frames per second of a frame's milliseconds."""
    return "-" if not ms else f"{1e3 / ms:.0f}" if ms <= 10 else f"{1e3 / ms:.1f}"


def share(value: float | None) -> str:
    """A share from 0 to 1."""
    return "-" if value is None else f"{value:.3f}"


def short(name: str) -> str:
    """A bundle's or an engine's name; bundles may be called anything."""
    return name if len(name) <= 60 else name[:59] + "…"
