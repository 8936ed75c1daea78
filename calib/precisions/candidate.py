"""The graphs of one precision, and the engines in which they are judged before they join a bundle."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial

import onnx

from jntrt.calib.graph.engine import Graphs, open_graph
from jntrt.calib.graph.layers import Layer, find_layers
from jntrt.calib.graph.roles import roles_of
from jntrt.calib.graph.view import GraphView
from jntrt.calib.precisions.fp16 import to_bfloat16, to_float16
from jntrt.calib.precisions.int8 import quantise, quantised_values, split_branches
from jntrt.export.onnx.promote import promote
from jntrt.runtime.bundle import Bundle
from jntrt.runtime.engines.pair import Pair
from jntrt.runtime.engines.precision import PRECISIONS as KINDS
from jntrt.runtime.engines.precision import Precision, find_precision
from jntrt.runtime.errors import UserError
from jntrt.runtime.tracker import Tracker

PRECISIONS = tuple(name for name, kind in KINDS.items() if kind.typed and name != "fp32")


@dataclass(frozen=True)
class Models:
    """The two graphs of one precision."""

    template: onnx.ModelProto
    track: onnx.ModelProto

    @property
    def memory(self) -> set[str]:
        """Names of the tensors that pass from template to track."""
        return {value.name for value in self.template.graph.output}


@dataclass(frozen=True)
class Candidate:
    """The graphs of `precision` as calibration makes them, and the files that they become.

    emulated: judged in the executor that rounds after every node to float16 or bfloat16, for want of a
    processor whose engine does; otherwise in ONNX Runtime's kernels themselves.
    """

    precision: str
    models: Models
    template_file: str
    track_file: str

    @property
    def kind(self) -> Precision:
        """What engines compute it in."""
        return find_precision(self.precision)

    @property
    def emulated(self) -> bool:
        return self.kind.fp16 or self.kind.bf16

    @property
    def engine(self) -> str:
        """Where the gate runs it, in words."""
        if not self.emulated:
            return "ONNX Runtime"
        return "float16 emulation" if self.kind.fp16 else "bfloat16 emulation"

    def graphs(self, threads: int | None = None) -> Graphs:
        """Ready to run on crops, with the kept tokens among the outputs."""
        return open_graphs(self.models, self.precision, threads)

    def tracker(self, bundle: Bundle, threads: int | None) -> Callable[[], AbstractContextManager[Tracker]]:
        """Opens a tracker that runs these graphs in place of the bundle's."""
        return partial(_open_tracker, bundle, self.models, self.precision, threads)


def _open_tracker(bundle: Bundle, models: Models, precision: str, threads: int | None) -> Tracker:
    engines = [open_graph(model, precision, threads) for model in (models.template, models.track)]
    return Tracker(bundle, Pair(*engines))


def load_models(bundle: Bundle) -> Models:
    """The fp32 graphs of a bundle, their digests checked. Raises UserError where they have no roles."""
    try:
        models = Models(*(onnx.load(bundle.graph(graph, "fp32")) for graph in ("template", "track")))
    except (ValueError, TypeError, OSError) as error:
        raise UserError(f"bundle {bundle.name}: its fp32 graphs cannot be read: export it again") from error
    for model in (models.template, models.track):
        roles_of(model)
    return models


def quantisable(models: Models) -> list[Layer]:
    """Every Linear and convolution of the track graph in the form that int8 gives it."""
    return find_layers(GraphView(split_branches(models.track)))


def observed_tensors(models: Models) -> list[str]:
    """Activations that int8 quantises, by value name."""
    view = GraphView(split_branches(models.track))
    return quantised_values(view, [layer for layer in find_layers(view) if layer.quantisable])


def make_candidate(
    precision: str,
    models: Models,
    peaks: Mapping[str, float],
    ranges: Mapping[str, float],
    keep: Iterable[str] = (),
    weight_bits: int = 8,
) -> Candidate:
    """The graphs of `precision`: fp16, bf16-gpu, int8 (float32 around) or int8-fp16 (float16 around).

    Raises UserError for an unknown precision, and as `to_float16` and `quantise` do.
    """
    if precision not in PRECISIONS:
        raise UserError(f"--precision {precision}: choose one of {', '.join(PRECISIONS)}")
    template, track = models.template, models.track
    kind = find_precision(precision)
    if kind.int8:
        track = quantise(split_branches(track), ranges, keep, weight_bits)
    if kind.fp16:
        memory = models.memory
        template, track = (to_float16(model, peaks, memory) for model in (template, track))
    if kind.bf16:
        template, track = (to_bfloat16(model, models.memory) for model in (template, track))
    own_template = "fp16" if kind.fp16 else precision if kind.bf16 else ""
    template_file = f"template.{own_template}.onnx" if own_template else "template.onnx"
    return Candidate(precision, Models(template, track), template_file, f"track.{precision}.onnx")


def open_graphs(models: Models, precision: str, threads: int | None = None) -> Graphs:
    """Both graphs of fp32 or a candidate's precision, ready to run on crops."""
    kept = roles_of(models.track).kept
    template, track = (
        open_graph(model, precision, threads) for model in (models.template, promote(models.track, kept))
    )
    return Graphs(template.run, track.run, frozenset(models.memory), kept)
