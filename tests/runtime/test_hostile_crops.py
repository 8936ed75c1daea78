"""Any box on any frame, in both families' conventions: a crop of the right size, or a UserError."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jntrt.runtime.bundle.conventions import Border, Context, Corner, CropSpec, Edge, Scale, Side
from jntrt.runtime.crop import border_colour, crop, crop_opencv
from jntrt.runtime.errors import UserError
from jntrt.runtime.geometry import crop_rectangle

SPECS = [
    CropSpec(32, 4.0),
    CropSpec(
        32,
        4.0,
        context=Context.PADDED,
        border=Border.MEAN,
        side=Side.HALF_EVEN,
        corner=Corner.FLOOR,
        edge=Edge.EXACT,
        scale=Scale.EXACT,
    ),
]
NUMBERS = st.one_of(st.floats(), st.floats(-300, 300), st.sampled_from([0.0, -0.0, 1e-300, 1e300, 1e9]))


@pytest.mark.parametrize("spec", SPECS, ids=["area", "padded"])
@settings(max_examples=150, deadline=None)
@given(
    box=st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    seed=st.integers(0, 9),
)
def test_a_crop_or_a_user_error(
    spec: CropSpec, box: tuple[float, float, float, float], size: tuple[int, int], seed: int
) -> None:
    frame = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    colour = border_colour(frame, spec)
    assert all(0 <= value <= 255 for value in colour)
    try:
        rectangle = crop_rectangle(box, spec)
    except UserError:
        return
    got = crop(frame, rectangle, spec.size, edge=spec.edge, border=colour)
    assert got.shape == (32, 32, 3)
    if rectangle.side < 500:
        assert np.array_equal(got, crop_opencv(frame, rectangle, spec.size, edge=spec.edge, border=colour))
