"""What a family chose for the host: how a crop is cut, how a box becomes the next state.

Data of the manifest, interpreted in geometry.py, crop.py and native/{crop.h,box.h} alone. A key that the
manifest leaves out means OSTrack's choice, which is each enum's first member; the enums' order is that of
box.h.
"""

from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

from jntrt.runtime.bundle.manifest import MAX_CROP, Reader, short
from jntrt.runtime.errors import UserError


class Word(str, Enum):
    """A choice that the manifest says in one word, which is the member's text."""

    __str__ = str.__str__


class Context(Word):
    """The crop's side in pixels of the frame, before it is rounded, of a box w×h."""

    AREA = "area"  # sqrt(w·h)·factor
    PADDED = "padded"  # sqrt((w+p)(h+p))·size/127, p = (w+h)/2


class Border(Word):
    """What a crop shows outside the frame."""

    ZERO = "zero"
    MEAN = "mean"  # colour of the frame at `init`, per channel, the fraction dropped


class Side(Word):
    """How the side becomes a whole number."""

    CEIL = "ceil"
    HALF_EVEN = "half-even"


class Corner(Word):
    """Where the square begins, per axis; c is the box's centre."""

    HALF_EVEN = "half-even"  # round(c - side/2)
    FLOOR = "floor"  # ⌊c - (side+1)/2 + ½⌋


class Edge(Word):
    """Which pixels of the frame show."""

    OSTRACK = "ostrack"  # all but the last column and the last row
    EXACT = "exact"


class Scale(Word):
    """What lengths of the crop are mapped by."""

    CROP = "crop"  # the crop's side
    EXACT = "exact"  # the side before it was rounded


class Clip(Word):
    """How the next state is kept in the frame; m is `least_size`."""

    BOX = "box"  # cut to the frame, at least m pixels of it inside, sides at least m
    CENTRE = "centre"  # the centre into the frame, sides m … those of the frame


class StateInput(Word):
    """What an input of the track graph tells of the state before the frame."""

    SIZE = "size"  # its w and h in pixels of the search crop


@dataclass(frozen=True)
class CropSpec:
    """One of the two crops: `size` in pixels of the network's input, `factor` of the context `area`."""

    size: int
    factor: float = 1.0
    context: Context = Context.AREA
    border: Border = Border.ZERO
    side: Side = Side.CEIL
    corner: Corner = Corner.HALF_EVEN
    edge: Edge = Edge.OSTRACK
    scale: Scale = Scale.CROP

    def __str__(self) -> str:
        context = f"factor {self.factor:g}" if self.context is Context.AREA else f"{self.context} context"
        return f"{self.size} px, {context}"


@dataclass(frozen=True)
class StateSpec:
    """The box around which crops are cut. `start_shift`: what `init` adds to the given x and y, in pixels."""

    clip: Clip = Clip.BOX
    least_size: float = 10.0
    start_shift: float = 0.0


def crop_spec(reader: Reader) -> CropSpec:
    """One of the two crops. Raises UserError for a word that this version does not know."""
    context = _choice(reader, "context", Context)
    return CropSpec(
        size=reader.whole("size", 16, MAX_CROP),
        factor=reader.number("factor", 0.1, 100) if context is Context.AREA else 1.0,
        context=context,
        border=_choice(reader, "border", Border),
        side=_choice(reader, "side", Side),
        corner=_choice(reader, "corner", Corner),
        edge=_choice(reader, "edge", Edge),
        scale=_choice(reader, "scale", Scale),
    )


def state_spec(manifest: Reader) -> StateSpec:
    """The section `state`, OSTrack's where there is none."""
    if "state" not in manifest.values:
        return StateSpec()
    reader = manifest.section("state")
    default = StateSpec()
    return StateSpec(
        clip=_choice(reader, "clip", Clip),
        least_size=_number(reader, "least_size", 1, 1000, default.least_size),
        start_shift=_number(reader, "start_shift", -1, 1, default.start_shift),
    )


def state_inputs(manifest: Reader) -> dict[str, StateInput]:
    """The section `state_inputs`: inputs of the track graph, each with its rule; a rule serves one input."""
    if "state_inputs" not in manifest.values:
        return {}
    reader = manifest.section("state_inputs")
    rules = {name: _choice(reader, name, StateInput) for name in reader.values}
    if len(set(rules.values())) < len(rules):
        raise UserError(f"{reader.where}: two inputs of one rule: export the checkpoint again")
    return rules


_Choice = TypeVar("_Choice", bound=Word)


def _choice(reader: Reader, key: str, choices: type[_Choice]) -> _Choice:
    word = reader.values.get(key, next(iter(choices)))
    for choice in choices:
        if word == choice:
            return choice
    raise UserError(f"{reader.where}: {key} {short(word)} needs a newer jntrt: update it")


def _number(reader: Reader, key: str, low: float, high: float, default: float) -> float:
    return reader.number(key, low, high) if key in reader.values else default
