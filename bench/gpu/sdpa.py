"""The plain form with PyTorch's fused attention, as its users would write it for speed: a second baseline."""

from copy import deepcopy
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

_Model = TypeVar("_Model", bound=nn.Module)


def with_fused_attention(model: _Model) -> _Model | None:
    """A copy whose attention is `scaled_dot_product_attention`; None for a network that has none.

    The weights, which candidate elimination reads, are written out beside it: to be compiled, which leaves
    them out wherever nobody reads them.
    """
    fused = deepcopy(model)
    found = [m for m in fused.modules() if all(hasattr(m, part) for part in ("qkv", "proj", "heads"))]
    for module in found:
        module.forward = partial(_fused, module, module.forward)
    return fused if found else None


def _fused(module: Any, plain: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    batch, count, dim = x.shape
    _, weights = plain(x)
    bias = module.qkv.bias
    if bias is None:
        bias = torch.cat((module.q_bias, torch.zeros_like(module.q_bias), module.v_bias))
    qkv = nn.functional.linear(x, module.qkv.weight, bias)
    q, k, v = qkv.reshape(batch, count, 3, module.heads, dim // module.heads).permute(2, 0, 3, 1, 4).unbind(0)
    attended = nn.functional.scaled_dot_product_attention(q, k, v)
    return module.proj(attended.transpose(1, 2).reshape(batch, count, dim)), weights
