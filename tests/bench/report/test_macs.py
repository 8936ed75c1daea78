"""The products that a report counts are the papers'."""

from dataclasses import replace

import pytest

from jntrt.export.families import family

PAPER = {1.0: 29.0, 0.9: 26.2, 0.8: 23.6, 0.7: 21.5, 0.6: 19.6, 0.5: 18.0}  # G at 256 pixels, by keep ratio


@pytest.mark.parametrize("ratio", PAPER)
def test_every_keep_ratio_costs_what_the_paper_says(ratio: float) -> None:
    kind = family("ostrack")
    recipe = replace(kind.NETWORKS["ostrack256ce"], keep_ratio=(ratio,) * 3)
    assert kind.macs(recipe) / 1e9 == pytest.approx(PAPER[ratio], rel=0.01)
