"""What is missing of a damaged source, and where."""

from collections.abc import Iterable
from dataclasses import dataclass, field

_SHOWN = 8  # ranges that are named before "and more"


@dataclass
class Damage:
    """Numbers of frames that are missing, of frames drawn from damaged data, and remarks in words."""

    missing: list[range] = field(default_factory=list)
    flawed: list[int] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """One line per kind of damage; none for a sound source."""
        lines = []
        if self.missing:
            missing = [number for gap in self.missing for number in gap]
            lines.append(f"{_frames(len(missing))} missing: {_ranges(_runs(missing))}")
        if self.flawed:
            flawed = _ranges(_runs(self.flawed))
            lines.append(f"{_frames(len(self.flawed))} decoded from damaged data: {flawed}")
        return lines + self.remarks


def _frames(count: int) -> str:
    return "1 frame is" if count == 1 else f"{count} frames are"


def _runs(numbers: Iterable[int]) -> list[range]:
    """Rising numbers as ranges of neighbours."""
    runs: list[range] = []
    for number in numbers:
        if runs and runs[-1].stop == number:
            runs[-1] = range(runs[-1].start, number + 1)
        else:
            runs.append(range(number, number + 1))
    return runs


def _ranges(ranges: list[range]) -> str:
    words = [f"{r.start}" if len(r) == 1 else f"{r.start} to {r.stop - 1}" for r in ranges[:_SHOWN]]
    return ", ".join(words) + (" and more" if len(ranges) > _SHOWN else "")
