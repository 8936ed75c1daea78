"""What a family offers: the names that its folder's `family.py` and `objective.py` have, and their types.

Importing this or a `family.py` is light, as the command's help needs it: no torch, no onnx, no numpy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    import onnx
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from jntrt.export.experiment_yaml import ExperimentYaml
    from jntrt.export.families.inference import CommonFlags, Inferred
    from jntrt.export.families.plain import PlainForm

    Weights = Mapping[str, NDArray[Any]]

Box = tuple[float, float, float, float]


class Recipe(Protocol):
    """A network's architecture: a frozen dataclass that is written into manifests and read back."""

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON types."""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Any:
        """The reverse; unknown keys are ignored, a missing or odd one is a `UserError`."""


@dataclass(frozen=True)
class Published:
    """A figure from a paper: frames per second, batch 1, on `device`."""

    model: str
    fps: float
    scope: str
    device: str


@dataclass(frozen=True)
class Supported:
    """A published tracker that the family exports.

    shown: by what its weights are recognised; told: what has to be said (by flag, experiment file or official
    recipe name); code_license: of its authors' repository; speed: as published, "–": not known.
    """

    tracker: str
    shown: str
    told: str
    code_license: str
    speed: str


class Family(Protocol):
    """A family's `family.py`."""

    Recipe: type[Any]
    """The class of its recipes, as the protocol of that name says."""
    Flags: type[CommonFlags]

    SUPPORTED: Sequence[Supported]
    """The published trackers of this family, for lists."""

    NETWORKS: Mapping[str, Any]
    """Recipes by name for benches that need no checkpoint: `tiny`, and sizes as published."""

    def recognise(self, weights: Weights) -> str | None:
        """Why these weights are this family's, None where they are not."""

    def own_names(self, weights: Weights) -> Weights:
        """The weights as `plain` and `graphs` take them: those of a tracker that is this family's under other
        names translated, all others as they are."""

    def infer(
        self,
        weights: Weights,
        config: ExperimentYaml | None,
        flags: Any,
        names: Iterable[tuple[str, str]],
    ) -> Inferred:
        """The recipe of `weights`, with a row for where each value came from.

        flags: an instance of `Flags`; names: names that may say something (the file's folder, the project's
        path), with where each was found. UserError where the sources disagree, or one is missing.
        """

    def experiment(self, recipe: Any) -> dict[str, Any]:
        """The recipe as an experiment file's table, from which `infer` reads it back."""

    def plain(self, recipe: Any) -> PlainForm:
        """The network as the paper says it, in torch, with random weights."""

    def graphs(self, recipe: Any, weights: Weights, batch: int) -> tuple[onnx.ModelProto, onnx.ModelProto]:
        """The exact fast form: the template graph and the track graph."""

    def conventions(self, recipe: Any) -> dict[str, Any]:
        """`template` and `search` (how each is cropped), and where they are not OSTrack's `state` and
        `state_inputs`: the manifest's entries."""

    def side_inputs(self, recipe: Any, box: Box) -> dict[str, NDArray[np.float32]]:
        """What the graphs take beside crops, memory and state inputs, for a target at `box` (x, y, w, h in
        pixels) of the template's frame: by the graph's name, without the batch axis."""

    def macs(self, recipe: Any) -> int:
        """Multiply-accumulates of the plain form's linear and convolution layers, per frame and template."""

    def published(self, recipe: Mapping[str, Any]) -> Published | None:
        """The published figure of the network that a manifest's `recipe` describes; None: there is none."""


class ObjectiveModule(Protocol):
    """A family's `objective.py`, which training alone imports."""

    Settings: type[Any]
    """Frozen dataclass of what a training configuration may say beside `TrainConfig`'s own keys; its
    `__post_init__` raises UserError."""

    FINE_TUNING: Mapping[str, Any] | None
    """What a configuration says, beside network and data, to teach a trained network a new kind of video;
    `original`, a setting, names its checkpoint. None: the family cannot be fine-tuned."""

    def Objective(self, recipe: Any, settings: Any) -> Objective:
        """What a network of this recipe is trained for. UserError for a recipe that cannot be trained."""


class Objective(Protocol):
    """How a network is begun, fed and judged."""

    parts: tuple[str, ...]
    """Names of the parts of the loss, for the log."""

    def network(self) -> PlainForm:
        """The plain form as it is trained (with drop-path and the like)."""

    def initialise(
        self, model: PlainForm, start: str, photos: list[NDArray[np.uint8]] | None, seed: int
    ) -> None:
        """Sets the first weights as the configuration's `start` says; photos: H×W×3 RGB, where there are any.
        UserError for a start that there is not."""

    def optimised(self, name: str, parameter: nn.Parameter) -> tuple[float, bool]:
        """The parameter's share of the learning rate, and whether weight decay pulls at it."""

    def jitter(self, box: Box, rng: np.random.Generator) -> Box:
        """What the tracker may believe of a target at `box` before it sees the frame."""

    def side_inputs(self, box: Box) -> dict[str, NDArray[Any]]:
        """As the family's, for a template's target."""

    def mirrored(self, side_inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The side inputs of the mirrored template crop."""

    def loss(self, network: Any, batch: Mapping[str, Tensor], step: int) -> dict[str, Tensor]:
        """`loss` and its `parts` at `step`.

        network: the plain form; calling it is its forward in the loop's precision, with float32 results.
        batch: `template`, `search` (uint8 B×S×S×3), side inputs, `box` (B×4, cx, cy, w, h in units of the
        search crop, 0 where absent), `present` (B bool), `region` (B bool: the target is a region of a
        photograph, no object), `previous_size` (B×2: w and h of the box that the search crop was made around,
        in pixels of it).
        """

    def distillation(self, model: PlainForm, channels: int) -> nn.Module:
        """A module that compares what `model` has just computed with a teacher's features of both crops
        (B×N×channels). UserError where the family has none."""

    def finished(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The plain form's state dict that a run ends with, from its averaged weights."""

    def at(self, step: int) -> Any:
        """The recipe of the network that `step` steps have made."""
