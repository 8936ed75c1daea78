"""What a figure was measured on, and whether the machine was quiet meanwhile."""

import contextlib
import os
import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from jntrt.runtime.engines.cpu import features

# Those that decide what a precision is worth.
INSTRUCTIONS = {
    "avx2",
    "avx512f",
    "avx_vnni",
    "avx512_vnni",
    "avx512_bf16",
    "amx_bf16",
    "amx_int8",
    "asimddp",
}
# From where on a run is not called quiet: shares of all cores' time, and of a fixed loop's.
MAX_STEAL = 0.02
MAX_OTHERS = 0.1
MAX_LOOP_CHANGE = 0.1
PACKAGES = ("jntrt", "numpy", "opencv-python-headless", "onnxruntime", "openvino", "torch", "tensorrt")


def describe_machine() -> dict[str, Any]:
    """Processor, cores, memory, system and package versions, for the head of every report."""
    import psutil

    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "gpu": _gpu(),
        "instructions": sorted(features() & INSTRUCTIONS),
        "python": platform.python_version(),
        "versions": versions,
    }


@dataclass(frozen=True)
class Moment:
    """CPU counters at one moment, seconds over all cores since boot; clock in MHz (None: unknown)."""

    total: float
    idle: float
    steal: float
    own: float
    megahertz: float | None


def moment() -> Moment:
    """The counters now. `own` is the CPU time of this process and its finished and living children."""
    import psutil

    times = psutil.cpu_times()
    process = psutil.Process()
    ended = process.cpu_times()  # of children that were waited for
    own = float(getattr(ended, "children_user", 0.0) + getattr(ended, "children_system", 0.0))
    for member in (process, *process.children(recursive=True)):
        try:
            used = member.cpu_times()
        except psutil.NoSuchProcess:
            continue
        own += used.user + used.system
    frequency = psutil.cpu_freq() if hasattr(psutil, "cpu_freq") else None
    return Moment(
        total=float(sum(times)),
        idle=float(times.idle + getattr(times, "iowait", 0.0)),
        steal=float(getattr(times, "steal", 0.0)),
        own=own,
        megahertz=float(frequency.current) if frequency and frequency.current else None,
    )


def shares(before: Moment, after: Moment) -> tuple[float, float]:
    """What a hypervisor took (steal) and what other processes used, of all cores' time in between."""
    total = max(after.total - before.total, 1e-9)
    steal = max(0.0, after.steal - before.steal) / total
    idle = (after.idle - before.idle) / total
    own = max(0.0, after.own - before.own) / total
    return steal, max(0.0, 1 - idle - steal - own)


def disturbances(steal: float, others: float) -> list[str]:
    """What of these shares is too much, in words."""
    words = []
    if steal > MAX_STEAL:
        words.append(f"the hypervisor took {steal:.0%} of the CPU time")
    if others > MAX_OTHERS:
        words.append(f"other processes used {others:.0%} of the CPU time")
    return words


def quiet_check(before: Moment, after: Moment, spins: tuple[float, float]) -> dict[str, Any]:
    """Clock and steal check between two moments.

    spins: milliseconds of a fixed loop (`spin`) before and after, which shows a changed clock even where the
    system does not tell it. Returns `shares`, the clock, and `warnings`, empty when the figures can be
    trusted.
    """
    steal, others = shares(before, after)
    slower = spins[1] / spins[0] - 1
    warnings = disturbances(steal, others)
    if abs(slower) > MAX_LOOP_CHANGE:
        change = "slower" if slower > 0 else "faster"
        warnings.append(f"a fixed loop was {abs(slower):.0%} {change} after the run than before it")
    return {
        "steal_share": round(steal, 4),
        "other_processes_share": round(others, 4),
        "megahertz": [before.megahertz, after.megahertz],
        "fixed_loop_ms": [round(value, 3) for value in spins],
        "warnings": warnings,
    }


def spin() -> float:
    """Milliseconds of a fixed integer loop, the best of five: a measure of the clock."""
    import time

    best = float("inf")
    for _ in range(5):
        begin = time.perf_counter()
        value = 1
        for _ in range(100_000):
            value = (value * 1103515245 + 12345) & 0x7FFFFFFF
        best = min(best, time.perf_counter() - begin)
    return best * 1e3


def _gpu() -> str | None:
    """The first GPU's name as NVML tells it; None without one, its driver or the package."""
    with contextlib.suppress(Exception):
        import pynvml

        pynvml.nvmlInit()
        try:
            return str(pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByIndex(0)))
        finally:
            pynvml.nvmlShutdown()
    return None


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
