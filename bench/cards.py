"""GPUs as their makers describe them."""

from dataclasses import dataclass

from jntrt.runtime.errors import UserError

# What copies achieve of a data sheet's bandwidth where nobody has measured it: between Habitat's T4 (0.75)
# and 2080 Ti (0.85).
_ACHIEVED = 0.8


@dataclass(frozen=True)
class Card:
    """A GPU at its boost clock. Rates are dense: TFLOPS of fp16 products that are summed in fp16 and in fp32,
    TOPS of int8; `bandwidth` is the data sheet's, `achieved` measured, in GB/s."""

    name: str
    sms: int
    megahertz: float
    fp16_in_fp16: float
    fp16_in_fp32: float
    int8: float
    bandwidth: float
    achieved: float | None = None

    @property
    def fp32_flops(self) -> float:
        """Operations per second of the 64 float32 lanes that an SM of Turing, A30 and A100 has."""
        return 2 * 64 * self.sms * self.megahertz * 1e6

    @property
    def bytes_per_second(self) -> float:
        """What copies achieve."""
        return 1e9 * (self.achieved or _ACHIEVED * self.bandwidth)

    def flops(self, *, int8: bool, fp32_sums: bool) -> float:
        """Operations per second of the tensor cores, a multiply-accumulate counted as two."""
        return 1e12 * (self.int8 if int8 else self.fp16_in_fp32 if fp32_sums else self.fp16_in_fp16)


# NVIDIA's data sheets and architecture papers; achieved: geoffxy/habitat, devices.yml. The T4 leaves its
# clock at 70 W.
CARDS = {
    "rtx2080ti": Card("RTX 2080 Ti", 68, 1545, 107.6, 53.8, 215, 616, 524),
    "rtx2060": Card("RTX 2060", 30, 1680, 51.6, 25.8, 103, 336),
    "rtx2060super": Card("RTX 2060 SUPER", 34, 1650, 57.4, 28.7, 115, 448),
    "a30": Card("A30", 56, 1440, 165, 165, 330, 933),
    "a100": Card("A100-SXM 40 GB", 108, 1410, 312, 312, 624, 1555),
    "t4": Card("T4", 40, 1590, 65, 65, 130, 320, 239),
}


def find_card(name: str) -> Card:
    """The card of that name. Raises UserError for a name that is none."""
    if name not in CARDS:
        raise UserError(f"no card {name!r:.60}: take {', '.join(CARDS)}")
    return CARDS[name]


# What drivers call them, without "NVIDIA".
_DRIVER_NAMES = {
    **{"GeForce RTX 2080 Ti": "rtx2080ti", "GeForce RTX 2060": "rtx2060"},
    **{"GeForce RTX 2060 SUPER": "rtx2060super", "A30": "a30", "A100-SXM4-40GB": "a100"},
    **{"T4": "t4", "Tesla T4": "t4"},
}


def card_of(gpu: str) -> Card | None:
    """The card that a driver calls `gpu`, or None where the table has none."""
    name = _DRIVER_NAMES.get(gpu.removeprefix("NVIDIA "))
    return None if name is None else CARDS[name]
