"""The precisions: which graphs each reads, what an engine computes them in, what still counts as the same."""

from dataclasses import dataclass

from jntrt.runtime.errors import UserError

AUTO = "auto"  # the name that stands for the fastest safe one (engines/auto.py)


@dataclass(frozen=True)
class Precision:
    """`stored`: the bundle's precision whose graphs it reads. `int8`: these quantise.

    fp16: their floats are float16. bf16: float32 tensors are computed in bfloat16, or are bfloat16 (`typed`).
    tf32: a GPU may round what goes into float32 products to 10 bits. limit: the largest difference of box
    (units of the search crop) and of score from fp32's that still counts as the same network: another order
    of summation, or the mantissa's share. How much accuracy int8 costs is its gate's question.
    """

    name: str
    stored: str
    limit: float
    fp16: bool = False
    bf16: bool = False
    int8: bool = False
    tf32: bool = False

    @property
    def typed(self) -> bool:
        """Whether its graphs have the precision in them; else an engine reads those of another so."""
        return self.stored == self.name

    def __str__(self) -> str:
        return self.name


PRECISIONS = {
    precision.name: precision
    for precision in (
        Precision("fp32", "fp32", 1e-4),
        Precision("fp16", "fp16", 1e-2, fp16=True),
        Precision("bf16", "fp32", 5e-2, bf16=True),
        Precision("bf16-gpu", "bf16-gpu", 5e-2, bf16=True),
        Precision("tf32", "fp32", 1e-2, tf32=True),
        Precision("int8", "int8", 2e-1, int8=True),
        Precision("int8-fp16", "int8-fp16", 2e-1, fp16=True, int8=True),
        Precision("int8-bf16", "int8", 2e-1, bf16=True, int8=True),
    )
}


def find_precision(name: str) -> Precision:
    """The precision of a name. Raises UserError for a name that is none."""
    if name not in PRECISIONS:
        raise UserError(f"no precision {name!r}: take {', '.join(PRECISIONS)}")
    return PRECISIONS[name]
