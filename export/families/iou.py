"""Intersection over union in PyTorch, for losses and targets; `bench/sequences/metrics.py` has NumPy's."""

import torch
from torch import Tensor


def box_iou(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Intersection over union, and the union's area, of boxes …×4 (x1, y1, x2, y2), pair by pair.

    A box whose corners are the wrong way round has no area.
    """
    low, high = torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])
    overlap = (high - low).clamp(min=0).prod(dim=-1)
    areas = [(box[..., 2:] - box[..., :2]).clamp(min=0).prod(dim=-1) for box in (a, b)]
    union = areas[0] + areas[1] - overlap
    return overlap / union.clamp(min=1e-12), union
