"""What the plain form costs."""

from __future__ import annotations

from jntrt.export.families.ostrack.recipe import Recipe


def plain_macs(recipe: Recipe) -> int:
    """Multiply-accumulates of the plain form's linear and convolution layers, per frame and template."""
    dim, arriving = recipe.dim, recipe.search_count
    context = recipe.template_count + (recipe.target_hidden > 0)
    total = (recipe.template_count + arriving) * 3 * recipe.patch**2 * dim
    total += recipe.target_hidden * (4 + dim)
    for block in range(recipe.depth):
        total += (context + arriving) * 4 * dim**2
        arriving = recipe.keep_counts.get(block, arriving)
        total += (context + arriving) * 2 * dim * recipe.mlp_dim
    return total + head_macs(recipe)


def head_macs(recipe: Recipe) -> int:
    """Of the head alone."""
    dim = recipe.dim
    outputs = {
        "center": (1, 2, 2),
        "corner": (1, 1),
        "distribution": (1, 4 * recipe.bins),
    }[recipe.head]
    c = recipe.head_channels
    tower = 9 * (dim * c + c * (c // 2) + (c // 2) * (c // 4) + (c // 4) * (c // 8))
    per_cell = sum(tower + c // 8 * n for n in outputs)
    if recipe.head == "distribution":
        per_cell += 20 * recipe.quality_dim + recipe.quality_dim
    return recipe.search_count * per_cell
