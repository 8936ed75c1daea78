"""What a network is, as the exporter knows it: the frozen `Recipe`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from jntrt.export.families.cost import check_activation
from jntrt.runtime.errors import UserError

FAMILIES = ("ostrack", "jn")
HEADS = ("center", "corner", "distribution")
TEMPLATE_TOKENS = ("center", "rect", "box", "all")
MAX_SIZE = 2048  # pixels of a crop's side
MAX_DEPTH = 64  # blocks
TARGET_BOX_FORMATS = ("cxcywh", "cxcywh01", "xyxy01", "xyxy")


def keep_counts(search_count: int, layers: Sequence[int], ratios: Sequence[float]) -> dict[int, int]:
    """Search tokens kept at each eliminating block; a block that would keep all is left out."""
    counts: dict[int, int] = {}
    for layer, ratio in zip(layers, ratios, strict=True):
        keep = math.ceil(ratio * search_count)
        if keep < search_count:
            counts[layer] = search_count = keep
    return counts


@dataclass(frozen=True)
class Recipe:
    """A one-stream tracker's architecture: crop sizes in pixels, widths (`dim`, `mlp_dim`, …) in channels.

    `qkv` is "qkv" (one linear with one bias) or "qv" (CAE's `q_bias` and `v_bias`). `target_hidden` is the
    hidden width of the target-indicating token's MLP, 0 when there is no such token. `ce_layers` are the
    zero-based blocks that eliminate candidates, `keep_ratio` one ratio for each of them.
    """

    family: str
    template_size: int
    template_factor: float
    search_size: int
    search_factor: float
    dim: int
    depth: int
    heads: int
    mlp_dim: int
    patch: int = 16
    qkv: str = "qkv"
    layer_scale: bool = False
    head: str = "center"
    head_channels: int = 256
    bins: int = 0
    quality_dim: int = 0
    target_hidden: int = 0
    target_box_format: str = "cxcywh"
    ce_layers: tuple[int, ...] = ()
    keep_ratio: tuple[float, ...] = ()
    template_tokens: str = "center"

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("family", self.family, FAMILIES),
            ("head", self.head, HEADS),
            ("template tokens", self.template_tokens, TEMPLATE_TOKENS),
            ("target box format", self.target_box_format, TARGET_BOX_FORMATS),
            ("qkv", self.qkv, ("qkv", "qv")),
        ):
            if value not in allowed:
                raise UserError(f"{name} {value!r} is unknown; it is one of {', '.join(allowed)}")
        for name, size in (("template", self.template_size), ("search", self.search_size)):
            if size < self.patch or size % self.patch:
                raise UserError(f"{name} size {size} is not a multiple of the patch size {self.patch}")
        for name, factor in (("template", self.template_factor), ("search", self.search_factor)):
            if not (math.isfinite(factor) and 0.1 <= factor <= 100):
                raise UserError(f"{name} factor {factor:g} is not between 0.1 and 100")
        if self.heads < 1 or self.dim % self.heads:
            raise UserError(f"width {self.dim} cannot be divided among {self.heads} heads; give --heads")
        self._check_cost()
        if len(self.keep_ratio) != len(self.ce_layers):
            wanted, given = len(self.ce_layers), len(self.keep_ratio)
            raise UserError(
                f"{wanted} elimination layers need as many keep ratios, not {given}: say --keep-ratio"
            )
        if any(b <= a for a, b in zip(self.ce_layers, self.ce_layers[1:], strict=False)) or not all(
            0 <= layer < self.depth for layer in self.ce_layers
        ):
            shown = ",".join(map(str, self.ce_layers))
            raise UserError(f"elimination layers {shown} must rise and lie in 0…{self.depth - 1}")
        if not all(0 < ratio <= 1 for ratio in self.keep_ratio):
            raise UserError(f"keep ratio {','.join(f'{r:g}' for r in self.keep_ratio)} is not in (0, 1]")

    def _check_cost(self) -> None:
        """Raises `UserError` for a network that no machine should be made to build."""
        size = max(self.template_size, self.search_size)
        if size > MAX_SIZE:
            raise UserError(f"a crop of {size} pixels a side is larger than {MAX_SIZE}; is it a tracker?")
        if not 1 <= self.depth <= MAX_DEPTH:
            raise UserError(f"{self.depth} blocks are more than {MAX_DEPTH}; is it a tracker?")
        tokens = self.template_count + self.search_count + 1
        attention = self.heads * tokens**2
        rows = tokens * max(3 * self.dim, self.mlp_dim, self.target_hidden)
        maps = self.search_count * max(9 * self.head_channels, 4 * self.bins, self.quality_dim)
        check_activation(
            max(attention, rows, maps),
            f"crops of {self.template_size} and {self.search_size} pixels in patches of {self.patch}, "
            f"{self.heads} heads and a width of {self.dim}",
        )

    @property
    def template_side(self) -> int:
        """Tokens along one side of the template."""
        return self.template_size // self.patch

    @property
    def search_side(self) -> int:
        """Cells along one side of the search map (n in the specification)."""
        return self.search_size // self.patch

    @property
    def template_count(self) -> int:
        """Template tokens, the target-indicating token not counted."""
        return self.template_side**2

    @property
    def search_count(self) -> int:
        """Search tokens before any elimination, n²."""
        return self.search_side**2

    @property
    def keep_counts(self) -> dict[int, int]:
        """Search tokens kept at each eliminating block; a block that would keep all is left out."""
        return keep_counts(self.search_count, self.ce_layers, self.keep_ratio)

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON types."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        """The recipe of a manifest. Unknown keys are ignored; a missing or odd one is a `UserError`."""
        known = {f.name for f in fields(cls)}
        taken: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in values.items() if k in known
        }
        try:
            return cls(**taken)
        except TypeError as error:
            raise UserError(f"the recipe is incomplete or odd: {error}") from None
