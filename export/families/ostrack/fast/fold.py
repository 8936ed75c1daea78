"""What the fast form folds into the weights before a graph is written. Every fold is exact up to rounding.

Computed in float64, returned as float32; a tensor that no fold touches is returned as it is, the same object,
so that the graph can keep its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jntrt.export.families.ostrack.plain.form import MEAN, STD
from jntrt.export.families.ostrack.recipe import Recipe

Array = NDArray[np.float32]
Weights = Mapping[str, Array]


@dataclass(frozen=True)
class FoldedAttention:
    """Linears as input × output matrices: d^-½ in q, no key bias, value bias, LayerScale in the projection.

    softmax(q·(k + b)ᵀ) = softmax(q·kᵀ), since q·bᵀ is the same for every key; the rows of a softmax sum to 1,
    so that softmax(…)·(v + b) = softmax(…)·v + b.
    """

    qkv: Array  # D×3D
    qkv_bias: Array  # 3D, zero but for q
    proj: Array  # D×D
    proj_bias: Array  # D


@dataclass(frozen=True)
class FoldedMlp:
    fc1: Array
    fc1_bias: Array
    fc2: Array
    fc2_bias: Array


def fold_attention(weights: Weights, recipe: Recipe, block: int) -> FoldedAttention:
    name = f"backbone.blocks.{block}"
    q, k, v = np.split(weights[f"{name}.attn.qkv.weight"].astype(np.float64), 3)
    if recipe.qkv == "qkv":
        q_bias, _, v_bias = np.split(weights[f"{name}.attn.qkv.bias"].astype(np.float64), 3)
    else:
        q_bias = weights[f"{name}.attn.q_bias"].astype(np.float64)
        v_bias = weights[f"{name}.attn.v_bias"].astype(np.float64)
    scale = (recipe.dim // recipe.heads) ** -0.5
    q, q_bias = scale * q, scale * q_bias
    proj = weights[f"{name}.attn.proj.weight"].astype(np.float64)
    proj_bias = weights[f"{name}.attn.proj.bias"] + proj @ v_bias
    if recipe.layer_scale:
        gamma = weights[f"{name}.gamma_1"].astype(np.float64)
        proj, proj_bias = gamma[:, None] * proj, gamma * proj_bias
    return FoldedAttention(
        qkv=_f32(np.concatenate((q, k, v)).T),
        qkv_bias=_f32(np.concatenate((q_bias, np.zeros(2 * recipe.dim)))),
        proj=_f32(proj.T),
        proj_bias=_f32(proj_bias),
    )


def fold_mlp(weights: Weights, recipe: Recipe, block: int) -> FoldedMlp:
    name = f"backbone.blocks.{block}"
    fc2, fc2_bias = weights[f"{name}.mlp.fc2.weight"], weights[f"{name}.mlp.fc2.bias"]
    if recipe.layer_scale:
        gamma = weights[f"{name}.gamma_2"].astype(np.float64)
        fc2, fc2_bias = _f32(gamma[:, None] * fc2), _f32(gamma * fc2_bias)
    return FoldedMlp(
        fc1=_f32(weights[f"{name}.mlp.fc1.weight"].T),
        fc1_bias=weights[f"{name}.mlp.fc1.bias"],
        fc2=_f32(fc2.T),
        fc2_bias=fc2_bias,
    )


def fold_patch_embedding(weights: Weights, positions: str) -> tuple[Array, Array]:
    """Matrix (16·16·3)×D for uint8 patches flattened as row, column, RGB, and position + bias (count×D).

    /255, mean and deviation are in both.
    """
    kernel = weights["backbone.patch_embed.proj.weight"].astype(np.float64)  # D×3×16×16
    mean, std = np.array(MEAN)[:, None, None], np.array(STD)[:, None, None]
    matrix = (kernel / (255 * std)).transpose(2, 3, 1, 0).reshape(-1, kernel.shape[0])
    bias = weights["backbone.patch_embed.proj.bias"] - (kernel * mean / std).sum(axis=(1, 2, 3))
    return _f32(matrix), _f32(weights[positions][0] + bias)


def fold_conv(weights: Weights, name: str) -> tuple[Array, Array]:
    """Kernel and bias of convolution `name.0` with batch norm `name.1` (ε 1e-5) folded in."""
    kernel, bias = (
        weights[f"{name}.0.weight"].astype(np.float64),
        weights[f"{name}.0.bias"].astype(np.float64),
    )
    variance = weights[f"{name}.1.running_var"].astype(np.float64)
    scale = weights[f"{name}.1.weight"] / np.sqrt(variance + 1e-5)
    shift = (bias - weights[f"{name}.1.running_mean"]) * scale + weights[f"{name}.1.bias"]
    return _f32(kernel * scale[:, None, None, None]), _f32(shift)


def _f32(array: NDArray[np.floating]) -> Array:
    return np.ascontiguousarray(array, dtype=np.float32)
