"""A shape costs a checkpoint nothing; the network that it asks for is bounded before it is built."""

from jntrt.runtime.errors import UserError

MAX_ACTIVATION = 1 << 27  # elements of the largest tensor of one frame: 768 pixels in a ViT-L


def check_activation(elements: int, asking: str) -> None:
    """Raises `UserError` where `asking`, a phrase in the plural, needs a tensor that no tracker has."""
    if elements > MAX_ACTIVATION:
        raise UserError(
            f"{asking} need a tensor of {elements:.1e} elements, more than {MAX_ACTIVATION:.1e}; "
            "is it a tracker?"
        )
