"""What a calibration is asked for, and what it found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from jntrt.calib.gate.judge import DEFAULTS, Thresholds, Verdict
from jntrt.calib.gate.sensitivity import Sensitivity
from jntrt.calib.precisions.candidate import PRECISIONS, Candidate
from jntrt.calib.precisions.ranges import METHODS, PERCENTILE, Observations
from jntrt.runtime.engines.precision import Precision, find_precision
from jntrt.runtime.errors import GateError, UserError


@dataclass(frozen=True)
class Options:
    """What the user may choose; None: the precision's default."""

    precision: str
    crops: int = 500
    seed: int = 0
    method: str = "minmax"
    percentile: float = PERCENTILE
    weight_bits: int = 8
    keep: tuple[str, ...] = ()
    ranges: Path | None = None
    gate_crops: int = 200
    gate_frames: int = 2000
    min_iou: float | None = None
    max_ao: float | None = None
    force: bool = False
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise UserError(f"--precision {self.precision}: choose one of {', '.join(PRECISIONS)}")
        if self.method not in METHODS:
            raise UserError(f"--method {self.method}: choose one of {', '.join(METHODS)}")
        if self.weight_bits not in (7, 8):
            raise UserError(f"--weight-bits {self.weight_bits}: 8, or 7 for CPUs without VNNI")
        if not 50 < self.percentile <= 100:
            raise UserError(f"--percentile {self.percentile:g}: give a number above 50, up to 100")
        for flag, value in (("--crops", self.crops), ("--gate-crops", self.gate_crops)):
            if value < 1:
                raise UserError(f"{flag} {value}: give a number above zero")
        if self.gate_frames < 2:
            raise UserError(
                f"--gate-frames {self.gate_frames}: give at least 2, one to begin on and one to judge"
            )

    @property
    def kind(self) -> Precision:
        """What engines compute the precision in."""
        return find_precision(self.precision)

    @property
    def thresholds(self) -> Thresholds:
        """The gate's, with the defaults of the precision filled in."""
        default = DEFAULTS["int8" if self.kind.int8 else "fp16"]
        return Thresholds(
            default.median_iou if self.min_iou is None else self.min_iou,
            default.ao if self.max_ao is None else self.max_ao,
        )


@dataclass(frozen=True)
class Calibrated:
    """What calibration found. `worst`: layers by what they cost; `kept`: those left out of int8."""

    candidate: Candidate
    verdict: Verdict
    observations: Observations
    ranges: Mapping[str, float]
    options: Options
    kept: tuple[str, ...] = ()
    worst: tuple[Sensitivity, ...] = ()
    share: float = 0.0
    float32: tuple[str, ...] = ()


class Refusal(GateError):
    """The gate's refusal, with the figures that it refused."""

    def __init__(self, text: str, result: Calibrated) -> None:
        super().__init__(text)
        self.result = result
