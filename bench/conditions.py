"""What the machine did during a run: clock, power, stolen time, other processes; and the verdict on it."""

import contextlib
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from jntrt.bench.machine import disturbances, moment, shares

PERIOD = 0.5  # seconds between two samples
# From where on a run is not called quiet; of the CPU's time: `machine`.
MAX_SPREAD = 0.05  # of the medians of rounds: half their middle 80 % over their median
MAX_SLOWDOWN = 0.05  # of clock or fixed product from the first third of the rounds to the last
_ENERGY = Path("/sys/class/powercap/intel-rapl:0/energy_uj")
_THROTTLED = "/sys/devices/system/cpu/cpu0/thermal_throttle/*_throttle_count"


@dataclass(frozen=True)
class Sample:
    """One look at the machine. second: since the start. Shares are of all cores' time since the last look.

    None: the system does not tell. gpu_*: of the first GPU, where NVML tells.
    """

    second: float
    megahertz: float | None
    steal: float
    others: float
    watts: float | None
    throttles: int | None
    gpu_megahertz: float | None = None
    gpu_watts: float | None = None
    gpu_throttled: bool | None = None


class Watch:
    """Looks at the machine twice a second while its context lasts; `samples` are what it saw."""

    def __init__(self) -> None:
        self.samples: list[Sample] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, name="watch", daemon=True)

    def __enter__(self) -> Self:
        self._begin = time.perf_counter()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        gpu = _Gpu()
        before, energy, then = moment(), _number(_ENERGY), time.perf_counter()
        while not self._over.wait(PERIOD):
            now, spent, clock = moment(), _number(_ENERGY), time.perf_counter()
            watts = None
            if energy is not None and spent is not None and spent >= energy:  # it wraps around
                watts = (spent - energy) / 1e6 / (clock - then)
            steal, others = shares(before, now)
            counts = [_number(file) for file in Path("/").glob(_THROTTLED[1:])]
            throttles = sum(count for count in counts if count is not None) if counts else None
            second = clock - self._begin
            self.samples.append(Sample(second, now.megahertz, steal, others, watts, throttles, **gpu.look()))
            before, energy, then = now, spent, clock
        gpu.close()


def verdict(
    samples: Sequence[Sample],
    rounds: NDArray[np.float64],
    reference: NDArray[np.float64],
    decode: float,
    frame: float,
) -> tuple[str, list[str]]:
    """One word for an engine's figures, and why: quiet, noisy, throttled or bound by decoding.

    rounds: the rounds' medians, in their order; reference: the fixed product's in the same rounds. decode,
    frame: medians in milliseconds.
    """
    slowed = []
    product = _slowdown(reference)
    if product > MAX_SLOWDOWN:
        slowed.append(f"a fixed product took {product:.0%} longer at the end than at the start")
    clocks = np.array([sample.megahertz for sample in samples if sample.megahertz], dtype=np.float64)
    if (fallen := -_slowdown(clocks)) > MAX_SLOWDOWN:
        slowed.append(f"the clock fell by {fallen:.0%}")
    throttles = [sample.throttles for sample in samples if sample.throttles is not None]
    if throttles and throttles[-1] > throttles[0]:
        slowed.append(f"the processor throttled {throttles[-1] - throttles[0]} times")
    if any(sample.gpu_throttled for sample in samples):
        slowed.append("the GPU throttled")
    noise = []
    if samples:
        taken = np.mean([(sample.steal, sample.others) for sample in samples], axis=0)
        noise = disturbances(*map(float, taken))
    if (spread := half_spread(rounds)) > MAX_SPREAD:
        noise.append(f"rounds differ by ±{spread:.0%}")
    # A slower product while others compute says that they took the machine, not that it cooled down.
    if slowed and not noise:
        return "throttled", slowed
    if noise:
        return "noisy", noise + slowed
    if decode > frame:
        return "bound by decoding", [f"decoding takes {decode:.2f} ms, the tracker {frame:.2f} ms a frame"]
    return "quiet", []


def half_spread(rounds: NDArray[np.float64]) -> float:
    """Half the distance from the 10th to the 90th percentile of the rounds' medians over their median."""
    low, middle, high = np.percentile(rounds, [10, 50, 90])
    return float((high - low) / 2 / middle)


def to_dict(samples: Sequence[Sample]) -> dict[str, Any]:
    """Samples as columns, for JSON, and their means."""
    rows = [asdict(sample) for sample in samples]
    columns = {key: [row[key] for row in rows] for key in asdict(_NOTHING)}
    known = {key: [value for value in values if value is not None] for key, values in columns.items()}
    means = {
        key: float(np.mean(values)) if values else None
        for key, values in known.items()
        if key not in ("second", "throttles", "gpu_throttled")
    }
    shown = {
        key: [round(value, 4) if isinstance(value, float) else value for value in values]
        for key, values in columns.items()
        if known[key]
    }
    return {"means": means, "samples": shown}


_NOTHING = Sample(0, None, 0, 0, None, None)


def _slowdown(values: NDArray[np.float64]) -> float:
    """The last third's median over the first third's, less one; 0 of fewer than six values."""
    third = len(values) // 3
    return float(np.median(values[-third:]) / np.median(values[:third]) - 1) if third >= 2 else 0.0


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


class _Gpu:
    """The first GPU's clock, power and throttling through NVML, where the package and a driver are there."""

    def __init__(self) -> None:
        self._nvml: Any = None
        with contextlib.suppress(Exception):  # no package, no driver, no GPU: nothing is told
            import pynvml

            pynvml.nvmlInit()
            self._device = pynvml.nvmlDeviceGetHandleByIndex(0)
            self._nvml = pynvml

    def look(self) -> dict[str, Any]:
        """The GPU's fields of a `Sample`."""
        nvml = self._nvml
        if nvml is None:
            return {}
        with contextlib.suppress(nvml.NVMLError):
            slow = nvml.nvmlClocksThrottleReasonHwSlowdown | nvml.nvmlClocksThrottleReasonSwThermalSlowdown
            slow |= nvml.nvmlClocksThrottleReasonSwPowerCap
            reasons = nvml.nvmlDeviceGetCurrentClocksThrottleReasons(self._device)
            return {
                "gpu_megahertz": float(nvml.nvmlDeviceGetClockInfo(self._device, nvml.NVML_CLOCK_SM)),
                "gpu_watts": nvml.nvmlDeviceGetPowerUsage(self._device) / 1e3,
                "gpu_throttled": bool(reasons & slow),
            }
        return {}

    def close(self) -> None:
        """Lets NVML go."""
        if self._nvml is not None:
            self._nvml.nvmlShutdown()
