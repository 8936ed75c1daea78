"""What the user may choose of a calibration: the command's flags, and what they mean."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jntrt.runtime.command.lists import parse_words
from jntrt.runtime.errors import UserError

# What computes is imported where it is needed: the command's help must stay fast.
if TYPE_CHECKING:
    from jntrt.calib.gate.judge import Thresholds
    from jntrt.runtime.engines.precision import Precision


@dataclass(frozen=True)
class Options:
    """Flags of `calib-jn`; None: the precision's default. Raises UserError for a value that there is not.

    Parameters
    ----------
    precision
        fp16, bf16-gpu (bfloat16, for GPUs from Ampere on), int8 (float32 around it, for CPUs) or
        int8-fp16 (float16 around it, for TensorRT).
    crops
        Calibration crops.
    seed
        Of the crops' jitter.
    method
        How ranges are chosen: minmax, percentile, mse or entropy.
    percentile
        For --method percentile, in per cent of the magnitudes.
    weight_bits
        8, or 7 for CPUs without VNNI, whose int8 sums saturate.
    keep
        Layers to leave out of int8, by name as calibration.json has them, separated by commas.
    ranges
        A calibration.json to take the int8 ranges from.
    gate_crops
        Held-back crops.
    gate_frames
        Frames of held-back sequences, at most.
    min_iou
        Least median IoU with the fp32 boxes. Default 0.995 for fp16, 0.97 for int8 and bf16-gpu.
    max_ao
        How far AO may move. Default 0.002 for fp16, 0.01 for int8 and bf16-gpu.
    force
        Write the precision even if the gate refuses; the bundle then says so.
    threads
        Of the engines.
    """

    precision: str
    crops: int = 500
    seed: int = 0
    method: str = "minmax"
    percentile: float = 99.99
    weight_bits: int = 8
    keep: str = ""
    ranges: Path | None = None
    gate_crops: int = 200
    gate_frames: int = 2000
    min_iou: float | None = None
    max_ao: float | None = None
    force: bool = False
    threads: int | None = None

    def __post_init__(self) -> None:
        from jntrt.calib.precisions.candidate import PRECISIONS
        from jntrt.calib.precisions.ranges import METHODS

        if self.precision not in PRECISIONS:
            raise UserError(f"--precision {self.precision}: choose one of {', '.join(PRECISIONS)}")
        if self.method not in METHODS:
            raise UserError(f"--method {self.method}: choose one of {', '.join(METHODS)}")
        if self.weight_bits not in (7, 8):
            raise UserError(f"--weight-bits {self.weight_bits}: 8, or 7 for CPUs without VNNI")
        if not 50 < self.percentile <= 100:
            raise UserError(f"--percentile {self.percentile:g}: give a number above 50, up to 100")
        if self.seed < 0:
            raise UserError(f"--seed {self.seed}: give a number from zero")
        if not self.kind.int8 and (self.keep or self.ranges):
            raise UserError(f"--precision {self.precision}: --keep and --ranges are for int8 alone")
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
        from jntrt.runtime.engines.precision import find_precision

        return find_precision(self.precision)

    @property
    def kept_layers(self) -> list[str]:
        """The layers of `keep`."""
        return parse_words(self.keep)

    @property
    def thresholds(self) -> Thresholds:
        """The gate's, with the defaults of the precision filled in."""
        from jntrt.calib.gate.judge import DEFAULTS, Thresholds

        default = DEFAULTS["int8" if self.kind.int8 else "bf16-gpu" if self.kind.bf16 else "fp16"]
        return Thresholds(
            default.median_iou if self.min_iou is None else self.min_iou,
            default.ao if self.max_ao is None else self.max_ao,
        )
