"""A kernel's measured time on one GPU as a time on another: Habitat's wave scaling (Yu et al. 2021).

t_d = t_o · (B_o / B_d)^γ · (C_o / C_d)^(1-γ), with B the bandwidth that copies achieve and C what the SMs
compute. γ says how much memory bounds the kernel: 1 - I / 2R where its intensity I (operations per byte) is
under the destination's ridge R = C_d / B_d, else R / 2I. Where neither GPU fills one wave, the number of SMs
does not matter, only what one of them computes and the number of waves.
"""

import math

from jntrt.bench.cards import Card
from jntrt.bench.projection.kernels import Kernel


def scale(
    ms: float, kernel: Kernel, origin: Card, destination: Card, *, launch_ms: float, fp32_sums: bool
) -> float:
    """Milliseconds on `destination` of a kernel that took `ms` on `origin`.

    launch_ms: how much of it was its launch, which takes as long there.

    C is the tensor cores' rate for what multiplies, which differs between generations by more than the
    clock times the SMs that Habitat takes; that product for what does not.
    """
    work = max(ms - launch_ms, 0.0)
    bandwidth = origin.bytes_per_second / destination.bytes_per_second
    if not kernel.macs:
        return launch_ms + work * bandwidth
    int8 = kernel.int8 and kernel.kind == "product"
    here = destination.flops(int8=int8, fp32_sums=fp32_sums)
    compute = origin.flops(int8=int8, fp32_sums=fp32_sums) / here
    ridge = here / destination.bytes_per_second
    intensity = 2 * kernel.macs / max(kernel.moved, 1)
    gamma = 1 - intensity / (2 * ridge) if intensity <= ridge else ridge / (2 * intensity)
    if kernel.tiles <= min(origin.sms, destination.sms):
        waves = math.ceil(kernel.tiles / destination.sms) / math.ceil(kernel.tiles / origin.sms)
        compute = origin.megahertz / destination.megahertz * waves * _per_sm(origin, destination, compute)
    return float(launch_ms + work * bandwidth**gamma * compute ** (1 - gamma))


def _per_sm(origin: Card, destination: Card, compute: float) -> float:
    """How much more one SM of the origin computes in a clock."""
    clocks = (origin.megahertz * origin.sms) / (destination.megahertz * destination.sms)
    return compute / clocks
