"""What this machine's processor does with int8."""

import platform
from functools import cache
from pathlib import Path

from jntrt.runtime.errors import UserError

MAX_THREADS = 256
NO_TYPED_BF16 = "bf16-gpu is a GPU's (Ampere and later): take bf16 with openvino, or fp32"
NO_TF32 = "tf32 is a GPU's (Ampere and later): take fp32"


def check_threads(threads: int | None) -> None:
    """Raises UserError for a number of threads that no engine should be asked for; None leaves it to it."""
    whole = threads is None or (isinstance(threads, int) and not isinstance(threads, bool))
    if not whole or (threads is not None and not 1 <= threads <= MAX_THREADS):
        raise UserError(f"{threads!r:.20} threads: give a whole number from 1 to {MAX_THREADS}")


@cache
def saturates_int8() -> bool:
    """Whether int8 products saturate here: an x86 processor without VNNI adds pairs of them in 16 bits.

    255·127 + 255·127 is above 32767: large activations that meet large weights give a wrong sum. Where the
    processor's features cannot be read, it is taken for one that does not.
    """
    if platform.machine() not in ("x86_64", "AMD64"):
        return False
    found = features()
    return bool(found) and not found & {"avx512_vnni", "avx_vnni"}


def features() -> frozenset[str]:
    """The processor's instruction sets and the like as Linux names them; empty where they cannot be read."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    flags = next((line for line in lines if line.startswith("flags")), "")
    return frozenset(flags.partition(":")[2].split())
