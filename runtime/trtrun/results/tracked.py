"""What one frame came to."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Boxes = npt.NDArray[np.float64]  # targets × 4: x, y, w, h in pixels


@dataclass(frozen=True)
class Tracked:
    """The targets in one frame: `boxes` B×4, `scores` and `lost` per target, and where the time went.

    `frame` is the frame's number in the source, which skips frames that are missing there. `milliseconds` is
    the tracker's own time, `waited` that for the frame before it. `redetected`: targets that the search for a
    lost one has found in this frame.
    """

    frame: int
    boxes: Boxes
    scores: tuple[float | None, ...]  # None in frame 0, whose boxes were given
    lost: tuple[bool, ...]
    milliseconds: float
    waited: float = 0.0
    redetected: tuple[bool, ...] = ()

    def to_dict(self) -> dict[str, object]:
        """For JSON: one target's box is a list of four, several targets' a list of such lists."""
        single = len(self.boxes) == 1
        scores = [None if score is None else round(score, 6) for score in self.scores]
        line: dict[str, object] = {
            "frame": self.frame,
            "box": _rounded(self.boxes[0]) if single else [_rounded(box) for box in self.boxes],
            "score": scores[0] if single else scores,
            "lost": self.lost[0] if single else list(self.lost),
            "milliseconds": round(self.milliseconds, 3),
        }
        if any(self.redetected):
            line["redetected"] = True if single else list(self.redetected)
        return line


def _rounded(box: npt.NDArray[np.float64]) -> list[float]:
    return [round(float(value), 3) for value in box]
