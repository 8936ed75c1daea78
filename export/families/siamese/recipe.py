"""What a Siamese tracker is, as the exporter knows it: the frozen `Recipe`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from jntrt.export.families.cost import check_activation
from jntrt.runtime.errors import UserError

CONSTANTS: dict[str, dict[str, Any]] = {
    "nanotrack-v1": {"window_influence": 0.462, "penalty_k": 0.148, "rate": 0.390},
    "nanotrack-v2": {"window_influence": 0.490, "penalty_k": 0.150, "rate": 0.385},
    "nanotrack-v3": {"window_influence": 0.455, "penalty_k": 0.138, "rate": 0.348},
    "hne": {"window_influence": 0.42, "penalty_k": 0.05, "rate": 0.38},
}
"""α, k and lr of the decoding."""


@dataclass(frozen=True)
class Recipe:
    """An anchor-free Siamese tracker: crop sizes in pixels, widths in channels.

    `blocks` are the backbone's rows: (kernel, hidden, outputs, squeeze, h-swish, stride) of each inverted
    residual for NanoTrack (squeeze 0: none; h-swish 0: ReLU), (blocks, inner, outputs) of each of the four
    layers for HNE. `cls_tower` and `reg_tower` are the kernel sizes of the two branches' convolutions.
    `stride` and `grid_offset`: cell i of the map stands at instance pixel grid_offset + stride·i.
    `biases` names HNE's convolutions before a batch norm that have a bias all the same.
    `window_influence`, `penalty_k` and `rate` are α, k and lr of the decoding.
    """

    family: str
    version: str
    stem: int
    blocks: tuple[tuple[int, ...], ...]
    width: int
    cls_tower: tuple[int, ...]
    reg_tower: tuple[int, ...]
    cls_width: int
    reg_width: int
    stride: int
    grid_offset: int
    window_influence: float
    penalty_k: float
    rate: float
    biases: tuple[str, ...] = ()
    template_size: int = 127
    search_size: int = 255

    def __post_init__(self) -> None:
        if self.version not in CONSTANTS:
            raise UserError(f"version {self.version!r} is unknown; it is one of {', '.join(CONSTANTS)}")
        for name, value in (
            ("window influence", self.window_influence),
            ("penalty k", self.penalty_k),
            ("rate", self.rate),
        ):
            if not (math.isfinite(value) and 0 <= value <= 1):
                raise UserError(f"{name} {value:g} is not in 0…1")
        widest = max((self.stem, self.width, *(n for block in self.blocks for n in block)))
        # Rather too many: only the first layers see so many pixels.
        check_activation(widest * (self.search_size // 2) ** 2, f"layers of {widest} channels")

    @property
    def is_hne(self) -> bool:
        return self.version == "hne"

    @property
    def template_side(self) -> int:
        """Cells along one side of the template's features."""
        return self._features_side(self.template_size)

    @property
    def search_side(self) -> int:
        """Cells along one side of the instance's features."""
        return self._features_side(self.search_size)

    @property
    def map_side(self) -> int:
        """Cells along one side of the map that is decoded."""
        if self.is_hne:  # two unpadded 3×3 convolutions, and a 5×5 kernel correlated
            return self.search_side - 6
        return self.search_side - (self.version == "nanotrack-v3")

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON types."""
        lists = {"blocks": [list(b) for b in self.blocks]}
        values = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}
        return {**values, **lists}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        """The recipe of a manifest. Unknown keys are ignored; a missing or odd one is a `UserError`."""
        known = {f.name for f in fields(cls)}
        try:
            taken: dict[str, Any] = {
                k: tuple(v) if isinstance(v, list) else v for k, v in values.items() if k in known
            }
            taken["blocks"] = tuple(tuple(int(n) for n in block) for block in values["blocks"])
            return cls(**taken)
        except (TypeError, KeyError, ValueError) as error:
            raise UserError(f"the recipe is incomplete or odd: {error}") from None

    def _features_side(self, size: int) -> int:
        return -(-size // self.stride)
