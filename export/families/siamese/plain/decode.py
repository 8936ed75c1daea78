"""From maps to a box: the penalty for change, the window, the arg-max and the smoothing of the size.

Both trackers of the family decode alike; lengths are in instance pixels until the very end.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jntrt.export.families.siamese.recipe import Recipe


def points(recipe: Recipe) -> NDArray[np.float64]:
    """X, Y of every cell relative to the centre of the crop, row-major: n²×2 instance pixels."""
    first = recipe.grid_offset - (recipe.search_size - 1) // 2
    y, x = np.divmod(np.arange(recipe.map_side**2), recipe.map_side)
    return (first + recipe.stride * np.stack((x, y), axis=1)).astype(np.float64)


def window(recipe: Recipe) -> NDArray[np.float64]:
    """Hann window, n². NanoTrack's is numpy's, with zeros at its ends; HNE's has none."""
    n = recipe.map_side
    line = np.hanning(n + 2)[1:-1] if recipe.is_hne else np.hanning(n)
    return np.outer(line, line).reshape(-1)


def decode(recipe: Recipe, score: Tensor, distances: Tensor, previous_size: Tensor) -> dict[str, Tensor]:
    """The box that the state becomes, before it is clipped to the frame.

    score: B×n×n, 0 … 1. distances: B×4×n×n, l, t, r, b from each cell's point in instance pixels.
    previous_size: B×2, w and h of the previous box in instance pixels.

    Returns `box` B×4 (cx, cy, w, h in units of the search crop), `score` B, and on the way: `cell` B
    (row-major), `beta` B, `penalty` and `response` B×n².
    """
    points_at = torch.from_numpy(points(recipe)).to(score)
    hann = torch.from_numpy(window(recipe)).to(score)
    presence, sides = score.flatten(1), distances.flatten(2).transpose(1, 2)  # B×n², B×n²×4
    near, far = points_at - sides[..., :2], points_at + sides[..., 2:]
    centre, size = (near + far) / 2, far - near
    penalty = change_penalty(size, previous_size[:, None], recipe.penalty_k)
    response = (1 - recipe.window_influence) * penalty * presence + recipe.window_influence * hann
    cell = response.argmax(dim=1)
    row = torch.arange(len(cell), device=cell.device)
    beta = (penalty * presence)[row, cell] * recipe.rate
    mixed = (1 - beta)[:, None] * previous_size + beta[:, None] * size[row, cell]
    box = torch.cat((centre[row, cell] / recipe.search_size + 0.5, mixed / recipe.search_size), dim=1)
    return {
        "box": box,
        "score": presence[row, cell],
        "cell": cell,
        "beta": beta,
        "penalty": penalty,
        "response": response,
    }


def change_penalty(size: Tensor, previous: Tensor, k: float) -> Tensor:
    """exp(-k·(max(r/r′, r′/r)·max(s/s′, s′/s) - 1)), r the aspect, s the size with context. …×2 → …"""
    aspect, context = size[..., 0] / size[..., 1], context_size(size)
    aspect_before, context_before = previous[..., 0] / previous[..., 1], context_size(previous)
    change = _either(aspect / aspect_before) * _either(context / context_before)
    return torch.exp(-k * (change - 1))


def context_size(size: Tensor) -> Tensor:
    """sqrt((w + p)(h + p)), p = (w + h)/2; …×2 → …"""
    half = size.sum(dim=-1, keepdim=True) / 2
    return (size + half).prod(dim=-1).sqrt()


def _either(ratio: Tensor) -> Tensor:
    return torch.maximum(ratio, 1 / ratio)
