"""What a calibration found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from jntrt.calib.gate.judge import Verdict
from jntrt.calib.gate.sensitivity import Sensitivity
from jntrt.calib.options import Options
from jntrt.calib.precisions.candidate import Candidate
from jntrt.calib.precisions.ranges import Observations
from jntrt.runtime.errors import GateError


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
