"""The one-stream encoder of OSTrack (section 3.1) and JN, plain form: what the papers say, trainable.

Token order is [target-indicating token; template; search]; "context" below means all but the search tokens.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from jntrt.export.families.ostrack.recipe import Recipe


class Attention(nn.Module):
    """Multi-head self-attention. With `qkv == "qv"` in CAE's parameterisation: the key has no bias."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        dim, self.heads = recipe.dim, recipe.heads
        one_bias = recipe.qkv == "qkv"
        self.qkv = nn.Linear(dim, 3 * dim, bias=one_bias)
        if not one_bias:
            self.q_bias = nn.Parameter(torch.zeros(dim))
            self.v_bias = nn.Parameter(torch.zeros(dim))
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x: B×N×D → the attended tokens B×N×D and the attention weights B×heads×N×N."""
        return self.mix(*self.project(x))

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of x (B×N×D), B×heads×N×d each."""
        batch, count, dim = x.shape
        bias = self.qkv.bias
        if bias is None:
            bias = torch.cat((self.q_bias, torch.zeros_like(self.q_bias), self.v_bias))
        qkv = nn.functional.linear(x, self.qkv.weight, bias)
        q, k, v = qkv.reshape(batch, count, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        return q, k, v

    def mix(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """proj(softmax(q·kᵀ·d^-½)·v) of B×heads×Nq×d queries: B×Nq×D, and the weights B×heads×Nq×Nk."""
        weights = ((q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)).softmax(dim=-1)
        return self.proj((weights @ v).transpose(1, 2).flatten(2)), weights


class Mlp(nn.Module):
    """Linear, exact (erf) GELU, Linear."""

    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(inputs, hidden)
        self.fc2 = nn.Linear(hidden, outputs)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.fc2(nn.functional.gelu(self.fc1(x)))
        return y


class DropPath(nn.Module):
    """Leaves a residual branch out of whole samples, in training only (stochastic depth)."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0.0:
            return x
        keep = 1.0 - self.rate
        return x * x.new_empty(x.shape[0], 1, 1).bernoulli_(keep) / keep


class Block(nn.Module):
    """Pre-norm transformer block; candidate elimination happens between `attend` and `transform`."""

    def __init__(self, recipe: Recipe, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(recipe.dim, eps=1e-6)
        self.attn = Attention(recipe)
        self.norm2 = nn.LayerNorm(recipe.dim, eps=1e-6)
        self.mlp = Mlp(recipe.dim, recipe.mlp_dim, recipe.dim)
        self.drop_path = DropPath(drop_path)
        self.layer_scale = recipe.layer_scale
        if recipe.layer_scale:
            self.gamma_1 = nn.Parameter(torch.full((recipe.dim,), 0.1))
            self.gamma_2 = nn.Parameter(torch.full((recipe.dim,), 0.1))

    def attend(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x + γ₁·attn(norm1 x), and the attention weights."""
        update, weights = self.attn(self.norm1(x))
        return self.attended(x, update), weights

    def attended(self, x: Tensor, update: Tensor) -> Tensor:
        """x + γ₁·update."""
        return x.add(self.drop_path(self.gamma_1 * update if self.layer_scale else update))

    def transform(self, x: Tensor) -> Tensor:
        """x + γ₂·mlp(norm2 x)."""
        update: Tensor = self.mlp(self.norm2(x))
        return x.add(self.drop_path(self.gamma_2 * update if self.layer_scale else update))


class PatchEmbed(nn.Module):
    """Image B×3×S×S → tokens B×(S/16)²×D, row-major."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, recipe.dim, recipe.patch, stride=recipe.patch)

    def forward(self, image: Tensor) -> Tensor:
        y: Tensor = self.proj(image)
        return y.flatten(2).transpose(1, 2)


class Encoder(nn.Module):
    """Patch embedding, positions, blocks with candidate elimination, final norm."""

    def __init__(self, recipe: Recipe, drop_path: float = 0.0) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed(recipe)
        self.pos_embed_z = nn.Parameter(torch.zeros(1, recipe.template_count, recipe.dim))
        self.pos_embed_x = nn.Parameter(torch.zeros(1, recipe.search_count, recipe.dim))
        rates = [drop_path * i / max(1, recipe.depth - 1) for i in range(recipe.depth)]
        self.blocks = nn.ModuleList(Block(recipe, rate) for rate in rates)
        self.norm = nn.LayerNorm(recipe.dim, eps=1e-6)

    def forward(
        self,
        template: Tensor,
        search: Tensor,
        target_token: Tensor | None,
        rows: Tensor,
        keep_counts: Mapping[int, int],
        forced: Mapping[int, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """One pass over template and search tokens together.

        template, search: B×3×S×S, normalised; target_token: B×1×D or None; rows: B×Nz weights of the template
        rows that rank the search tokens, sum 1; keep_counts: block → search tokens kept there;
        forced: block → cells to keep there (B×keep), in place of the ranking.
        Returns the context tokens B×(1+)Nz×D and the search tokens on their map B×n²×D after the final norm,
        dropped cells exactly zero, and `similarity.L` (B×n², NaN: gone before block L) and `kept.L` (B×keep,
        cells by falling similarity) for the eliminating blocks.
        """
        tokens = self.patch_embed(template) + self.pos_embed_z
        if target_token is not None:
            tokens = torch.cat((target_token, tokens), dim=1)
        context = tokens.shape[1]
        x = torch.cat((tokens, self.patch_embed(search) + self.pos_embed_x), dim=1)
        batch, side_count, dim = x.shape[0], x.shape[1] - context, x.shape[2]
        cells = torch.arange(side_count, device=x.device).expand(batch, -1)
        notes: dict[str, Tensor] = {}
        for number, block in enumerate(self.blocks):
            assert isinstance(block, Block)
            x, weights = block.attend(x)
            if number in keep_counts:
                similarity = candidate_similarity(weights, rows, context)
                gone = torch.full((batch, side_count), torch.nan, dtype=x.dtype, device=x.device)
                notes[f"similarity.{number}"] = gone.scatter(1, cells, similarity.detach())
                if forced is None:
                    order = similarity.topk(keep_counts[number], dim=1).indices
                else:
                    order = (cells[:, None, :] == forced[number][:, :, None]).to(x.dtype).argmax(dim=2)
                cells = cells.gather(1, order)
                kept = x[:, context:].gather(1, order[:, :, None].expand(-1, -1, dim))
                x = torch.cat((x[:, :context], kept), dim=1)
                notes[f"kept.{number}"] = cells
            x = block.transform(x)
        x = self.norm(x)
        restored = x.new_zeros(batch, side_count, dim)
        restored = restored.scatter(1, cells[:, :, None].expand(-1, -1, dim), x[:, context:])
        return x[:, :context], restored, notes


def candidate_similarity(weights: Tensor, rows: Tensor, context: int) -> Tensor:
    """How much the chosen template rows attend to each search token (OSTrack, eq. 4): B×n.

    weights: B×heads×N×N after the softmax over all tokens; rows: B×Nz, sum 1; the Nz template tokens are the
    last of the `context` tokens that stand before the search tokens.
    """
    template = weights[:, :, context - rows.shape[1] : context, context:]
    return (template * rows[:, None, :, None]).sum(dim=2).mean(dim=1)


def template_rows(recipe: Recipe) -> Tensor | None:
    """Weights (Nz, sum 1) of the template tokens that rank the search tokens; None: they depend on the box.

    The released code's cells: the centre of an even side is the lower one, ⌊(n-1)/2⌋.
    """
    side = recipe.template_side
    mask = torch.zeros(side, side)
    low, high = (side - 1) // 2, side // 2
    match recipe.template_tokens:
        case "center":
            mask[low, low] = 1
        case "rect":
            mask[low : high + 1, low : high + 1] = 1
        case "all":
            mask[:] = 1
        case "box":
            return None
        case other:
            raise ValueError(f"template_tokens {other!r} is none of center, rect, box, all")
    return (mask / mask.sum()).flatten()
