"""The kernels of networks that others timed, by their papers' sizes, fused as inference libraries do it."""

from collections.abc import Mapping
from itertools import pairwise

from jntrt.bench.projection.kernels import Kernel

_DIM, _DEPTH, _HEADS = 768, 12, 12  # of ViT-B and BERT-base


def encoder(tokens: int, *, int8: bool = False) -> list[Kernel]:
    """ViT-B's or BERT-base's blocks on `tokens` tokens: seven launches each."""
    return [kernel for _ in range(_DEPTH) for kernel in _block(tokens, tokens, int8=int8)]


def ostrack(template: int, search: int, kept: Mapping[int, int], channels: int = 256) -> list[Kernel]:
    """OSTrack's plain form, ViT-B with the centre head, in fp16; tokens of template and search.

    kept: search tokens that candidate elimination leaves, by block.
    """
    arriving = search
    kernels = [Kernel("product", template + search, _DIM, 3 * 16**2), Kernel("moves", 2 * search * _DIM)]
    for block in range(_DEPTH):
        before = template + arriving
        arriving = kept.get(block, arriving)
        kernels += _block(before, template + arriving, int8=False)
        if block in kept:  # rank, gather
            kernels += [Kernel("moves", _HEADS * before), Kernel("moves", 2 * before * _DIM)]
    sizes = (_DIM, channels, channels // 2, channels // 4, channels // 8)
    for taken, made in pairwise(sizes):
        kernels += [Kernel("product", search, made, 9 * taken)] * 3
    kernels += [Kernel("product", search, outputs, sizes[-1]) for outputs in (1, 2, 2)]
    return [*kernels, *[Kernel("moves", search)] * 4]  # scatter, sigmoid, arg-max, decoding


def _block(before: int, after: int, *, int8: bool) -> list[Kernel]:
    """A block whose MLP sees `after` tokens of `before`."""
    return [
        Kernel("product", before, 3 * _DIM, _DIM, int8=int8),
        Kernel("attention", before, before, _DIM // _HEADS, _HEADS),
        Kernel("product", before, _DIM, _DIM, int8=int8),
        Kernel("moves", 3 * before * _DIM),  # residual and norm
        Kernel("product", after, 4 * _DIM, _DIM, int8=int8),
        Kernel("product", after, _DIM, 4 * _DIM, int8=int8),
        Kernel("moves", 3 * after * _DIM),
    ]
