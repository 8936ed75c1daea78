"""The verdict on a run, and what is watched during one."""

import time

import numpy as np
import pytest

from jntrt.bench.conditions import Sample, Watch, to_dict, verdict


def sample(second: float = 1, **changed: object) -> Sample:
    told = {"megahertz": 3000.0, "steal": 0.0, "others": 0.01, "watts": None, "throttles": 0}
    return Sample(second, **{**told, **changed})  # type: ignore[arg-type]


STEADY = np.full(9, 10.0)


@pytest.mark.parametrize(
    ("samples", "rounds", "reference", "decode", "word", "reason"),
    [
        ([sample()], STEADY, STEADY, 1.0, "quiet", ""),
        ([sample()], STEADY, STEADY, 12.0, "bound by decoding", "decoding takes 12.00 ms"),
        ([sample(steal=0.1)], STEADY, STEADY, 1.0, "noisy", "hypervisor took 10%"),
        ([sample(others=0.4)], STEADY, STEADY, 1.0, "noisy", "other processes used 40%"),
        ([sample()], np.linspace(8, 12, 9), STEADY, 1.0, "noisy", "rounds differ by ±16%"),
        ([sample()], STEADY, np.linspace(10, 12, 9), 1.0, "throttled", "fixed product took"),
        ([sample(throttles=2), sample(throttles=5)], STEADY, STEADY, 1.0, "throttled", "throttled 3 times"),
        ([sample(gpu_throttled=True)], STEADY, STEADY, 1.0, "throttled", "the GPU throttled"),
        ([sample(megahertz=3000 - 90 * k) for k in range(9)], STEADY, STEADY, 1.0, "throttled", "clock fell"),
        ([sample(others=0.4)], STEADY, np.linspace(10, 12, 9), 1.0, "noisy", "fixed product took"),
    ],
)
def test_verdicts(
    samples: list[Sample],
    rounds: np.ndarray,
    reference: np.ndarray,
    decode: float,
    word: str,
    reason: str,
) -> None:
    found, reasons = verdict(samples, rounds, reference, decode, frame=5.0)
    assert found == word
    assert reason in "; ".join(reasons)
    assert bool(reasons) == (word != "quiet")


def test_the_machine_is_watched() -> None:
    with Watch() as watch:
        time.sleep(1.3)
    assert len(watch.samples) >= 1
    assert all(0 <= s.steal <= 1 and 0 <= s.others <= 1 for s in watch.samples)
    told = to_dict(watch.samples)
    assert told["means"]["others"] is not None
    assert len(told["samples"]["second"]) == len(watch.samples)
