"""What the user may say of an OSTrack or JN checkpoint on the command line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jntrt.export.families.inference import CommonFlags, flag


@dataclass(frozen=True)
class OneStreamFlags(CommonFlags):
    """What no one-stream tracker's weights show; None where nothing was said."""

    heads: int | None = flag("Attention heads. Needed where the width is not 192, 384, 768 or 1024.", "N")
    template_factor: float | None = flag("Side of the template crop over the box's. Published: 2.", "F")
    search_factor: float | None = flag(
        "Side of the search crop over the box's. Published: 5 at 384 pixels, 4 at 256.", "F"
    )


@dataclass(frozen=True)
class Flags(OneStreamFlags):
    """Flags of `export-jn`; None where nothing was said."""

    ce_layers: str | None = flag(
        "Blocks that eliminate candidates, counted from 0, such as 3,6,9; or none, as in the published jn.",
        "3,6,9 or none",
    )
    keep_ratio: str | None = flag(
        "What they keep, such as 0.7, the published ratio, or one ratio for each.", "R"
    )
    template_tokens: Literal["center", "rect", "box", "all"] | None = flag(
        "Template rows that rank the candidates. Published: center.", "ROWS"
    )
    target_box_format: Literal["cxcywh", "cxcywh01", "xyxy01", "xyxy"] | None = flag(
        "How JN's target token takes its box. Published: cxcywh.", "FORMAT"
    )
