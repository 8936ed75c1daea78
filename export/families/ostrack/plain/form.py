"""What the plain forms of all trackers of ViT blocks and OSTrack's heads have alike."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from jntrt.export.families.ostrack.plain.heads import PRIOR_BIAS
from jntrt.export.families.ostrack.recipe import Recipe
from jntrt.export.families.plain import PlainForm

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


class ViTForm(PlainForm):
    """A `backbone` with patch embedding, positions and blocks, and a `box_head`; crops as ImageNet's.

    `one_stream`: the recipe of the OSTrack that has these parts.
    """

    backbone: Any
    box_head: Any
    target_token_embed: Any  # only where the recipe has a target token
    mean: Tensor
    std: Tensor

    def __init__(self, recipe: Any, one_stream: Recipe) -> None:
        super().__init__(recipe)
        self.one_stream = one_stream
        self.register_buffer("mean", torch.tensor(MEAN), persistent=False)
        self.register_buffer("std", torch.tensor(STD), persistent=False)

    def draw_weights(self) -> None:
        """The first weights, once all parts are there."""
        self.apply(_initialise)
        nn.init.trunc_normal_(self.backbone.pos_embed_z, std=0.02)
        nn.init.trunc_normal_(self.backbone.pos_embed_x, std=0.02)
        for name in ("conv5_ctr", "conv5_cls"):
            if hasattr(self.box_head, name):
                nn.init.constant_(self.box_head.get_submodule(name).bias, PRIOR_BIAS)

    def normalise(self, crop: Tensor) -> Tensor:
        """uint8 RGB crops B×S×S×3 → float32 B×3×S×S, ImageNet mean and deviation."""
        return ((crop.float() / 255 - self.mean) / self.std).permute(0, 3, 1, 2).contiguous()

    def decode(self, out: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """B×4 box (cx, cy, w, h in units of the search crop) and B presence score, 0 … 1."""
        box, score = self.box_head.decode(out)
        return box, score


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Conv2d):
        nn.init.xavier_uniform_(module.weight.flatten(1))
        if module.bias is not None:
            nn.init.zeros_(module.bias)
