"""A start from which a small encoder learns matching in hours instead of days.

Plain random weights spend most of a short schedule on finding out that patches have texture, that tokens have
places and that like attends to like. Here the patch embedding starts as the principal components of
photograph patches, the positions as two-dimensional sines, and queries and keys as the same random projection
("Mimetic Initialization of Self-Attention Layers", ICML 2023).
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from jntrt.export.families.ostrack.plain.encoder import Block
from jntrt.export.families.ostrack.plain.form import MEAN, STD, ViTForm
from jntrt.runtime.errors import UserError

PATCHES = 20000
LIKENESS = 0.7  # strength of query · key = projection of token · token
POSITION = 0.25  # size of the sines


@torch.no_grad()
def initialise(model: ViTForm, photos: list[NDArray[np.uint8]], seed: int) -> None:
    """Sets all weights of `model` from the photographs' statistics and the seed."""
    generator = torch.Generator().manual_seed(seed)
    recipe = model.one_stream
    embed = model.backbone.patch_embed.proj
    embed.weight.copy_(principal_filters(photos, recipe.dim, recipe.patch, seed))
    assert embed.bias is not None
    embed.bias.zero_()
    model.backbone.pos_embed_z.copy_(positions(recipe.template_side, recipe.dim))
    model.backbone.pos_embed_x.copy_(positions(recipe.search_side, recipe.dim))
    for module in model.backbone.blocks.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight, generator=generator)
    depth_scale = 1 / math.sqrt(2 * recipe.depth)
    for block in model.backbone.blocks:
        assert isinstance(block, Block)
        block.attn.proj.weight.mul_(depth_scale)
        block.mlp.fc2.weight.mul_(depth_scale)
        width = recipe.dim // recipe.heads
        query, key = block.attn.qkv.weight[: recipe.dim], block.attn.qkv.weight[recipe.dim : 2 * recipe.dim]
        for head in range(recipe.heads):
            projection = torch.empty(width, recipe.dim)
            nn.init.orthogonal_(projection, generator=generator)
            rows = slice(head * width, (head + 1) * width)
            query[rows].mul_(0.3).add_(LIKENESS * projection)
            key[rows].mul_(0.3).add_(LIKENESS * projection)
    if recipe.target_hidden:
        for layer in (model.target_token_embed.fc1, model.target_token_embed.fc2):
            nn.init.xavier_uniform_(layer.weight, generator=generator)
    for module in model.box_head.modules():
        if isinstance(module, nn.Conv2d) and module.kernel_size[0] == 3:
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)


def principal_filters(photos: list[NDArray[np.uint8]], count: int, patch: int, seed: int) -> Tensor:
    """count×3×patch×patch: principal components of normalised patches, half whitened, outputs about 0.5."""
    rng = np.random.default_rng(seed)
    patches = np.empty((PATCHES, patch, patch, 3), np.float32)
    for target in patches:
        photo = photos[rng.integers(len(photos))]
        y, x = (rng.integers(size - patch + 1) for size in photo.shape[:2])
        target[:] = photo[y : y + patch, x : x + patch]
    values = (patches / 255 - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
    flat = values.transpose(0, 3, 1, 2).reshape(PATCHES, -1).astype(np.float64)
    flat -= flat.mean(axis=0)
    variance, vectors = np.linalg.eigh(flat.T @ flat / PATCHES)
    order = np.argsort(variance)[::-1][:count]
    gain = 0.5 * (variance[order] + 1e-3) ** -0.25 / np.mean((variance[order] + 1e-3) ** 0.25)
    filters = vectors[:, order] * gain * rng.choice((-1, 1), len(order))
    if len(order) < count:
        raise UserError(f"start: principal is for a dim of at most {len(order)}, not {count}; use plain")
    return torch.from_numpy(filters.T.reshape(count, 3, patch, patch).astype(np.float32))


def positions(side: int, dim: int) -> Tensor:
    """1×side²×dim sines and cosines of the cell's distance from the middle, columns then rows."""
    quarter = dim // 4
    frequency = math.pi * torch.logspace(-1.0, 0.0, quarter)
    place = torch.arange(side) - (side - 1) / 2
    angles = place[:, None] * frequency
    axis = torch.cat((angles.sin(), angles.cos()), dim=1)
    columns = axis[None].expand(side, -1, -1)
    rows = axis[:, None].expand(-1, side, -1)
    out = torch.zeros(side, side, dim)
    out[..., : 4 * quarter] = POSITION * torch.cat((columns, rows), dim=2)
    return out.reshape(1, side * side, dim)


@torch.no_grad()
def load_encoder(model: ViTForm, path: Path) -> None:
    """Copies pre-trained ViT weights (safetensors; names with or without `backbone.`) into the encoder.

    Blocks, patch embedding and final norm must all be there in the network's shapes; positions are sines,
    since those of a classifier fit neither crop. UserError names what is missing.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: no safetensors file with an encoder: {error}") from None
    weights = {name.removeprefix("backbone."): value for name, value in weights.items()}
    own = {k: v for k, v in model.backbone.state_dict().items() if not k.startswith("pos_embed")}
    wrong = sorted(k for k, v in own.items() if k not in weights or weights[k].shape != v.shape)
    if wrong:
        shown = ", ".join(wrong[:4])
        raise UserError(
            f"{path}: {len(wrong)} weights of the encoder are missing or of another shape: {shown}"
        )
    for name, value in own.items():
        value.copy_(weights[name])
    model.backbone.pos_embed_z.copy_(positions(model.one_stream.template_side, model.one_stream.dim))
    model.backbone.pos_embed_x.copy_(positions(model.one_stream.search_side, model.one_stream.dim))
