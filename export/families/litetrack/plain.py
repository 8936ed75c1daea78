"""LiteTrack, plain form: asynchronous feature extraction (section III of the paper), target token, head.

Parameter names are those of the released state dicts. This is the reference of every parity check, and what
training trains.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from jntrt.export.families.litetrack.recipe import Recipe
from jntrt.export.families.ostrack.plain.encoder import Block, Mlp, PatchEmbed
from jntrt.export.families.ostrack.plain.form import ViTForm
from jntrt.export.families.ostrack.plain.heads import CenterHead
from jntrt.export.families.ostrack.plain.macs import head_macs


class Encoder(nn.Module):
    """Template and search tokens one after the other; no norm at the end."""

    def __init__(self, recipe: Recipe, drop_path: float = 0.0) -> None:
        super().__init__()
        parts = recipe.one_stream
        self.feature_layers = recipe.feature_layers
        self.patch_embed = PatchEmbed(parts)
        self.pos_embed_z = nn.Parameter(torch.zeros(1, parts.template_count, recipe.dim))
        self.pos_embed_x = nn.Parameter(torch.zeros(1, parts.search_count, recipe.dim))
        rates = [drop_path * i / max(1, recipe.depth - 1) for i in range(recipe.depth)]
        self.blocks = nn.ModuleList(Block(parts, rate) for rate in rates)

    def template_features(self, template: Tensor, target_token: Tensor | None) -> Tensor:
        """Z, B×Nz×D: the template (B×3×S×S, normalised) and its target token (B×1×D) through all blocks."""
        z: Tensor = self.patch_embed(template) + self.pos_embed_z
        count = z.shape[1]
        if target_token is not None:
            z = torch.cat((target_token, z), dim=1)
        for block in self.blocks:
            assert isinstance(block, Block)
            z = block.transform(block.attend(z)[0])
        return z[:, -count:]

    def forward(self, search: Tensor, z: Tensor) -> Tensor:
        """Search tokens B×n²×D, row-major, of crops B×3×S×S: alone at first, then seeing Z."""
        x: Tensor = self.patch_embed(search) + self.pos_embed_x
        for number, block in enumerate(self.blocks):
            assert isinstance(block, Block)
            x = block.attend(x)[0] if number < self.feature_layers else interact(block, x, z)
            x = block.transform(x)
        return x


def interact(block: Block, x: Tensor, z: Tensor) -> Tensor:
    """A block's attention as an interaction layer: queries of x, keys and values of [z; x], z unchanged."""
    q, k, v = block.attn.project(block.norm1(torch.cat((z, x), dim=1)))
    return block.attended(x, block.attn.mix(q[:, :, z.shape[1] :], k, v)[0])


class LiteTrack(ViTForm):
    """The tracker that a recipe describes. `drop_path`: as OSTrack's."""

    recipe: Recipe
    backbone: Encoder
    box_head: CenterHead

    def __init__(self, recipe: Recipe, drop_path: float = 0.0) -> None:
        super().__init__(recipe, recipe.one_stream)
        self.backbone = Encoder(recipe, drop_path)
        self.box_head = CenterHead(self.one_stream)
        if recipe.target_hidden:
            self.target_token_embed = Mlp(4, recipe.target_hidden, recipe.dim)
        self.draw_weights()

    def forward(
        self, template: Tensor, search: Tensor, target_box: Tensor | None = None
    ) -> dict[str, Tensor]:
        """The head's maps (see its `forward`), and `template_features` Z (B×Nz×D).

        template, search: B×3×S×S, ImageNet-normalised (`normalise`). target_box: B×4, corners in units of the
        template crop; needed when the recipe has a target token.
        """
        token = None
        if self.recipe.target_hidden:
            if target_box is None:
                raise ValueError("this network has a target token: target_box is needed")
            token = self.target_token_embed(target_box)[:, None]
        z = self.backbone.template_features(template, token)
        x = self.backbone(search, z)
        side = self.one_stream.search_side
        maps = self.box_head(x.transpose(1, 2).reshape(-1, self.recipe.dim, side, side))
        return {**maps, "template_features": z}

    def predict(
        self, inputs: Mapping[str, Tensor], kept: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """As `PlainForm.predict` says."""
        box, score = self.decode(self(inputs["template"], inputs["search"], inputs.get("target_box")))
        return {"box": box, "score": score}


def plain_macs(recipe: Recipe) -> int:
    """Multiply-accumulates of the plain form's linear and convolution layers, per frame and template."""
    parts, dim = recipe.one_stream, recipe.dim
    nz, nx = parts.template_count, parts.search_count
    target = recipe.target_hidden > 0
    block = 4 * dim**2 + 2 * dim * recipe.mlp_dim
    tokens = (nz + nx) * 3 * recipe.patch**2 * dim + recipe.target_hidden * (4 + dim)
    template = (nz + target) * recipe.depth * block
    search = nx * recipe.depth * block + nz * recipe.ai_layers * 3 * dim**2
    return tokens + template + search + head_macs(parts)
