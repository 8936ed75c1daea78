"""What is checked of a graph before it is shipped: graph rules, cost, parity with the plain form."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import torch
from jntrt.export.graph import promote, uses_template_weights
from jntrt.export.networks.ostrack import OSTrack, normalise
from jntrt.export.recipe import Recipe
from jntrt.runtime.errors import UserError
from numpy.typing import NDArray

TOLERANCE = 1e-4  # of box and score between the plain form and a graph, absolute
TIE = 1e-5  # of the similarities' range: two tokens closer than this may change places

OPSET = 20
FORBIDDEN = {"If", "Loop", "Scan", "NonZero", "Resize", "Shape"}
# What LayerNormalization, Gelu and Softmax turn into when an exporter writes them out.
WRITTEN_OUT = {"Erf", "Exp", "Tanh", "Pow"}


def check_graph(model: onnx.ModelProto) -> None:
    """Raises UserError, with all that is wrong in one line, when a graph breaks the graph rules."""
    wrong = graph_violations(model)
    if wrong:
        raise UserError(
            f"the {model.graph.name or 'unnamed'} graph breaks the graph rules: {'; '.join(wrong)}"
        )


def graph_violations(model: onnx.ModelProto) -> list[str]:
    """The graph rules that a template or track graph breaks, one line each; empty: none."""
    return [*_format(model), *_names(model.graph), *_operators(model.graph), *_interior(model.graph)]


def _format(model: onnx.ModelProto) -> Iterator[str]:
    opsets = {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}
    if opsets != {"ai.onnx": OPSET}:
        yield f"opsets are {opsets}, should be ai.onnx {OPSET} alone"
    if model.functions:
        yield "it has functions of its own"
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in model.graph.initializer):
        yield "it has external data"
    shapes = [*model.graph.input, *model.graph.value_info, *model.graph.output]
    dynamic = [info.name for info in shapes if _static_shape(info) is None]
    if dynamic:
        yield f"shapes are not static: {_some(dynamic)}"
    known = {info.name for info in shapes}
    unknown = [name for node in model.graph.node for name in node.output if name and name not in known]
    if unknown:
        yield f"shapes are not known: {_some(unknown)}"


def _names(graph: onnx.GraphProto) -> Iterator[str]:
    names = [node.name for node in graph.node]
    unnamed = sum(not name or name.startswith("node_") for name in names)
    if unnamed:
        yield f"{unnamed} nodes are not named by their place"
    if len(set(names)) != len(names):
        yield f"nodes share names: {_some([name for name in set(names) if names.count(name) > 1])}"


def _operators(graph: onnx.GraphProto) -> Iterator[str]:
    bytes_in = {i.name for i in graph.input if i.type.tensor_type.elem_type == onnx.TensorProto.UINT8}
    ranks = {i.name: _rank(i) for i in (*graph.input, *graph.value_info, *graph.output)}
    ranks |= {i.name: len(i.dims) for i in graph.initializer}
    readers: dict[str, int] = {}
    for node in graph.node:
        for name in node.input:
            readers[name] = readers.get(name, 0) + 1
    for node in graph.node:
        if node.domain not in ("", "ai.onnx"):
            yield f"{node.name} is of domain {node.domain}"
        if node.op_type in FORBIDDEN:
            yield f"{node.name} is a {node.op_type}"
        if node.op_type in WRITTEN_OUT:
            yield f"{node.name} ({node.op_type}) is a written-out LayerNormalization, Gelu or Softmax"
        if node.op_type != "Cast" and bytes_in.intersection(node.input):
            yield f"{node.name} ({node.op_type}) reads uint8, only Cast may"
        if node.op_type == "Gather" and ranks.get(node.input[1]) != 1:
            yield f"{node.name} gathers with an index that is not 1-D"
        if node.op_type == "Softmax" and "/attn/" in node.name and readers.get(node.output[0], 0) > 1:
            yield f"{node.name} has a second reader, which breaks its fusion"
        if node.op_type == "TopK" and "/ce/" in node.name and _attribute(node, "sorted", 1):
            yield f"{node.name} sorts for nothing"


def _interior(graph: onnx.GraphProto) -> Iterator[str]:
    """What tests and gates promote: `head/score_map` in a track graph, `blocks.N/ce/kept` per TopK."""
    made = {name for node in graph.node for name in node.output}
    if "box" in made and "head/score_map" not in made:
        yield "head/score_map is missing"
    for node in graph.node:
        if node.op_type == "TopK" and "/ce/" in node.name:
            kept = node.name.partition("/ce/")[0] + "/ce/kept"
            if kept not in made:
                yield f"{kept} is missing"


def count_macs(model: onnx.ModelProto) -> int:
    """Multiply-accumulates of the graph's linear and convolution layers (the papers' scope)."""
    graph = model.graph
    shapes = {i.name: _static_shape(i) for i in (*graph.input, *graph.value_info, *graph.output)}
    constants = {i.name: tuple(i.dims) for i in graph.initializer}
    for node in graph.node:  # weights of reduced precision
        if node.op_type in ("Cast", "DequantizeLinear") and node.input[0] in constants:
            constants[node.output[0]] = constants[node.input[0]]
    total = 0
    for node in graph.node:
        weight = constants.get(node.input[1]) if len(node.input) > 1 else None
        if weight is None or node.op_type not in ("MatMul", "Gemm", "Conv"):
            continue
        shape = shapes[node.output[0]]
        if shape is None:
            raise ValueError(f"{node.output[0]} has no static shape")
        if node.op_type == "Conv":
            depth = int(np.prod(weight[1:]))
        else:
            depth = weight[1] if _attribute(node, "transB", 0) else weight[-2]
        total += int(np.prod(shape)) * depth
    return total


def plain_macs(recipe: Recipe) -> int:
    """Multiply-accumulates of the plain form's linear and convolution layers, per frame and template."""
    dim, arriving = recipe.dim, recipe.search_count
    context = recipe.template_count + (recipe.target_hidden > 0)
    total = (recipe.template_count + arriving) * 3 * recipe.patch**2 * dim
    total += recipe.target_hidden * (4 + dim)
    for block in range(recipe.depth):
        total += (context + arriving) * 4 * dim**2
        arriving = recipe.keep_counts.get(block, arriving)
        total += (context + arriving) * 2 * dim * recipe.mlp_dim
    outputs = {
        "center": (1, 2, 2),
        "corner": (1, 1),
        "distribution": (1, 4 * recipe.bins),
    }[recipe.head]
    c = recipe.head_channels
    tower = 9 * (dim * c + c * (c // 2) + (c // 2) * (c // 4) + (c // 4) * (c // 8))
    per_cell = sum(tower + c // 8 * n for n in outputs)
    if recipe.head == "distribution":
        per_cell += 20 * recipe.quality_dim + recipe.quality_dim
    return total + recipe.search_count * per_cell


@dataclass(frozen=True)
class Parity:
    """The graphs in ONNX Runtime against the plain form in PyTorch, on the same crops.

    `box_difference` and `score_difference`: the largest absolute differences. `ties`: samples in which a tie
    in the ranking was decided differently, so that the plain form had to keep the graph's tokens.
    `unexcused`: samples whose kept tokens differ by more than a tie. `box` S×4 and `score` S: the graphs'.
    """

    box_difference: float
    score_difference: float
    ties: int
    unexcused: int
    box: NDArray[np.float32] = field(repr=False)
    score: NDArray[np.float32] = field(repr=False)

    @property
    def passed(self) -> bool:
        # Written so that a NaN fails.
        close = self.box_difference <= TOLERANCE and self.score_difference <= TOLERANCE
        return close and not self.unexcused

    def to_dict(self) -> dict[str, Any]:
        """The manifest's `check`."""
        return {
            "box": self.box_difference,
            "score": self.score_difference,
            "ties": self.ties,
            "passed": self.passed,
        }

    def __str__(self) -> str:
        text = f"box {self.box_difference:.1e}, score {self.score_difference:.1e}, allowed {TOLERANCE:.0e}"
        return text + (f", {self.unexcused} samples keep other tokens" if self.unexcused else "")


def parity(
    model: OSTrack, template: onnx.ModelProto, track: onnx.ModelProto, samples: Mapping[str, NDArray[Any]]
) -> Parity:
    """Runs both graphs in ONNX Runtime and the plain form (`model`, in eval mode) on the same crops.

    samples: `template`, `search` uint8, `target_box`, `template_weights` (the last two read where the recipe
    has a use for them), first axis: sample, a multiple of the graphs' batch.
    Where the results differ by more than the tolerance because other candidates were kept, the plain form is
    run once more with the graph's; a kept set is excused only where it swaps tokens closer than `TIE`.
    """
    batch = track.graph.input[0].type.tensor_type.shape.dim[0].dim_value
    count = len(samples["search"])
    if count % batch:
        raise ValueError(f"{count} samples are no multiple of the batch {batch}")
    run_template, run_track = _runner(template), _runner(track)
    run_forced = None
    layers = list(model.recipe.keep_counts)
    boxes, scores, differences, ties, unexcused = [], [], [], 0, 0
    for start in range(0, count, batch):
        crops = {name: array[start : start + batch] for name, array in samples.items()}
        memory = run_template(_taken(template, crops))
        inputs = {**_taken(track, crops), **memory}
        got = run_track(inputs)
        difference = _difference(got, plain := _plain(model, crops))
        if not (difference <= TOLERANCE).all() and layers:
            if run_forced is None:
                run_forced = _runner(promote(track, [f"blocks.{i}/ce/kept" for i in layers]))
            promoted = run_forced(inputs)
            kept = {i: promoted[f"blocks.{i}/ce/kept"] for i in layers}
            differ = [not _same_sets(plain, kept, row) for row in range(batch)]
            if any(differ):
                forced = _plain(model, crops, kept)
                difference = _difference(got, forced)
                gaps = [
                    max(ranking_gap(forced[f"similarity.{i}"][row], kept[i][row]) for i in layers)
                    for row in range(batch)
                ]
                unexcused += sum(d and not gap <= TIE for d, gap in zip(differ, gaps, strict=True))
                ties += sum(d and gap <= TIE for d, gap in zip(differ, gaps, strict=True))
        differences.append(difference)
        boxes.append(got["box"])
        scores.append(got["score"])
    box_difference, score_difference = np.max(differences, axis=0)
    return Parity(
        float(box_difference),
        float(score_difference),
        ties,
        unexcused,
        np.concatenate(boxes),
        np.concatenate(scores),
    )


def ranking_gap(similarity: NDArray[Any], kept: NDArray[Any]) -> float:
    """By how much of the similarities' range a dropped token stood above a kept one; 0 or less: by nothing.

    similarity: n², NaN for tokens that did not arrive; kept: cells.
    """
    arrived = ~np.isnan(similarity)
    dropped = arrived.copy()
    dropped[kept] = False
    spread = np.ptp(similarity[arrived])
    return float(
        (similarity[dropped].max() - similarity[kept].min()) / max(spread, np.finfo(np.float32).tiny)
    )


def _plain(
    model: OSTrack, crops: Mapping[str, NDArray[Any]], kept: Mapping[int, NDArray[Any]] | None = None
) -> dict[str, NDArray[Any]]:
    recipe = model.recipe
    optional = {}
    if recipe.target_hidden:
        optional["target_box"] = torch.from_numpy(crops["target_box"])
    if uses_template_weights(recipe):
        optional["template_mask"] = torch.from_numpy(crops["template_weights"])
    forced = {layer: torch.from_numpy(cells) for layer, cells in kept.items()} if kept else None
    with torch.inference_mode():
        template, search = (normalise(torch.from_numpy(crops[name])) for name in ("template", "search"))
        out = model(template, search, **optional, forced=forced)
        box, score = model.decode(out)
    notes = {name: t.numpy() for name, t in out.items() if name.startswith(("kept.", "similarity."))}
    return {**notes, "box": box.numpy(), "score": score.numpy()}


def _difference(got: Mapping[str, NDArray[Any]], plain: Mapping[str, NDArray[Any]]) -> NDArray[np.float64]:
    """Largest absolute differences of box and score; NaN where either is not finite."""
    return np.array([np.abs(got[name].astype(np.float64) - plain[name]).max() for name in ("box", "score")])


def _same_sets(plain: Mapping[str, NDArray[Any]], kept: Mapping[int, NDArray[Any]], row: int) -> bool:
    return all(set(plain[f"kept.{i}"][row].tolist()) == set(cells[row].tolist()) for i, cells in kept.items())


def _taken(model: onnx.ModelProto, crops: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {i.name: crops[i.name] for i in model.graph.input if i.name in crops}


def _runner(model: onnx.ModelProto) -> Any:
    """inputs → outputs, both by name, in ONNX Runtime on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda inputs: dict(zip(names, session.run(names, inputs), strict=True))


def _static_shape(info: onnx.ValueInfoProto) -> tuple[int, ...] | None:
    tensor = info.type.tensor_type
    if not tensor.HasField("shape") or any(not d.HasField("dim_value") for d in tensor.shape.dim):
        return None
    return tuple(d.dim_value for d in tensor.shape.dim)


def _rank(info: onnx.ValueInfoProto) -> int | None:
    shape = _static_shape(info)
    return None if shape is None else len(shape)


def _attribute(node: onnx.NodeProto, name: str, default: int) -> int:
    return next((int(a.i) for a in node.attribute if a.name == name), default)


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
