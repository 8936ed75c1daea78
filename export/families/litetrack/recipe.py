"""What a LiteTrack is, as the exporter knows it: the frozen `Recipe`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from jntrt.export.families.ostrack import recipe as ostrack
from jntrt.runtime.errors import UserError


@dataclass(frozen=True)
class Recipe:
    """Crop sizes in pixels, widths in channels; CAE's blocks and OSTrack's centre head.

    The last `ai_layers` of the `depth` blocks are asynchronous interaction layers: in them the search tokens
    see the template. `target_hidden` is the hidden width of the target token's MLP, 0 when there is no such
    token.
    """

    template_size: int
    template_factor: float
    search_size: int
    search_factor: float
    dim: int
    depth: int
    ai_layers: int
    heads: int
    mlp_dim: int
    patch: int = 16
    head_channels: int = 256
    target_hidden: int = 0
    target_box_format: str = "xyxy"

    def __post_init__(self) -> None:
        _ = self.one_stream  # checks all the rest
        if not 1 <= self.ai_layers <= self.depth:
            raise UserError(
                f"{self.ai_layers} interaction layers in {self.depth} blocks: "
                f"say --ai-layers, 1 to {self.depth}"
            )

    @property
    def one_stream(self) -> ostrack.Recipe:
        """The one-stream tracker of the same crops, blocks and head."""
        return ostrack.Recipe(
            family="jn",
            template_size=self.template_size,
            template_factor=self.template_factor,
            search_size=self.search_size,
            search_factor=self.search_factor,
            dim=self.dim,
            depth=self.depth,
            heads=self.heads,
            mlp_dim=self.mlp_dim,
            patch=self.patch,
            qkv="qv",
            layer_scale=True,
            head_channels=self.head_channels,
            target_hidden=self.target_hidden,
            target_box_format=self.target_box_format,
        )

    @property
    def feature_layers(self) -> int:
        """Blocks that see the search tokens alone."""
        return self.depth - self.ai_layers

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        """The recipe of a manifest. Unknown keys are ignored; a missing or odd one is a `UserError`."""
        known = {f.name for f in fields(cls)}
        try:
            return cls(**{k: v for k, v in values.items() if k in known})
        except TypeError as error:
            raise UserError(f"the recipe is incomplete or odd: {error}") from None
