"""What this machine's processor does with int8."""

import platform
from functools import cache
from pathlib import Path


@cache
def saturates_int8() -> bool:
    """Whether int8 products saturate here: an x86 processor without VNNI adds pairs of them in 16 bits.

    255·127 + 255·127 is above 32767: large activations that meet large weights give a wrong sum. Where the
    processor's features cannot be read, it is taken for one that does not.
    """
    if platform.machine() not in ("x86_64", "AMD64"):
        return False
    features = _features()
    return bool(features) and not features & {"avx512_vnni", "avx_vnni"}


def _features() -> frozenset[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    flags = next((line for line in lines if line.startswith("flags")), "")
    return frozenset(flags.partition(":")[2].split())
