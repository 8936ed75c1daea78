"""The plain form of a recipe, and what it costs."""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from jntrt.export.families.siamese.plain.hne import HardNegativeTracker
from jntrt.export.families.siamese.plain.nanotrack import NanoTrack
from jntrt.export.families.siamese.recipe import Recipe

Network = NanoTrack | HardNegativeTracker


def plain(recipe: Recipe) -> Network:
    """The recipe's network as the papers have it, with fresh weights."""
    return HardNegativeTracker(recipe) if recipe.is_hne else NanoTrack(recipe)


def plain_macs(recipe: Recipe) -> int:
    """Multiply-accumulates of convolutions, linears and correlations for a frame.

    The template's features are left out; what the head makes of them is not, as the released code has it.
    """
    with torch.device("meta"):
        model = plain(recipe).eval()
        template, search = (torch.empty(1, 3, s, s) for s in (recipe.template_size, recipe.search_size))
    with torch.no_grad():
        with FlopCounterMode(display=False) as both:
            model(template, search)
        with FlopCounterMode(display=False) as once:
            model.features(template)
    return int(both.get_total_flops() - once.get_total_flops()) // 2
