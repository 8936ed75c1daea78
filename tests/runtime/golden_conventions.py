"""The conventions of three families, the loops recorded with NanoTrack's, and a bundle that has them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
from onnx import TensorProto
from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info
from onnx.numpy_helper import from_array

from jntrt.runtime import geometry
from jntrt.runtime.bundle import Bundle, write_bundle
from jntrt.runtime.bundle.conventions import (
    Border,
    Clip,
    Context,
    Corner,
    CropSpec,
    Edge,
    Scale,
    Side,
    StateSpec,
)

GOLDEN = Path(__file__).parents[1] / "data" / "golden"

OSTRACK = CropSpec(256, 4.0)
NANOTRACK = CropSpec(
    255,
    context=Context.PADDED,
    border=Border.MEAN,
    side=Side.HALF_EVEN,
    corner=Corner.FLOOR,
    edge=Edge.EXACT,
    scale=Scale.EXACT,
)
HNE = replace(NANOTRACK, corner=Corner.HALF_EVEN)
CENTRE = StateSpec(Clip.CENTRE, start_shift=-0.5)
FAMILIES = {"ostrack": (OSTRACK, StateSpec()), "nanotrack": (NANOTRACK, CENTRE), "hne": (HNE, StateSpec())}

# The keys of a manifest that says NanoTrack's.
NANOTRACK_SECTIONS: dict[str, dict[str, Any]] = {
    **{
        section: {
            "size": size,
            "context": "padded",
            "border": "mean",
            "side": "half-even",
            "corner": "floor",
            "edge": "exact",
            "scale": "exact",
        }
        for section, size in (("template", 127), ("search", 255))
    },
    "state": {"clip": "centre", "least_size": 10, "start_shift": -0.5},
    "state_inputs": {"previous_size": "size"},
}

NANOTRACK_LOOPS = (0, 1, 3, 4, 5, 6)


def nanotrack_loop(number: int, version: str = "v3") -> dict[str, Any]:
    loop: dict[str, Any] = json.loads((GOLDEN / f"nanotrack/{version}/loop{number}.json").read_text())
    folders = {
        "loop/frames": "jn/loop/frames",
        "ostrack256_ce_loop/frames": "loops/ostrack256_ce_loop/frames",
    }
    loop["frames"] = GOLDEN / folders[loop["frames"]]
    return loop


def box_of(step: dict[str, Any]) -> geometry.Box:
    """A step's state before it."""
    (cx, cy), (w, h) = step["previous_centre"], step["previous_size"]
    return (cx - w / 2, cy - h / 2, w, h)


def frame_of(loop: dict[str, Any], number: int) -> np.ndarray:
    """H×W×3 uint8 RGB."""
    image = cv2.imread(str(loop["frames"] / f"{number:03d}.png"), cv2.IMREAD_COLOR)
    assert image is not None
    return np.ascontiguousarray(image[..., ::-1])


def write_size_bundle(folder: Path, batch: int = 1) -> Bundle:
    """NanoTrack's conventions around graphs that move by mean colours and grow by 2 % a frame."""
    image = (TensorProto.UINT8, [batch, 127, 127, 3])
    template = _graph(
        [
            make_node("Cast", ["template"], ["pixels"], to=TensorProto.FLOAT),
            make_node("ReduceMean", ["pixels", "axes"], ["memory"], keepdims=0),
        ],
        {"template": image},
        {"memory": (TensorProto.FLOAT, [batch, 3])},
    )
    track = _graph(
        [
            make_node("Cast", ["search"], ["pixels"], to=TensorProto.FLOAT),
            make_node("ReduceMean", ["pixels", "axes"], ["mean"], keepdims=0),
            make_node("Sub", ["mean", "memory"], ["difference"]),
            make_node("Mul", ["difference", "step"], ["moved"]),
            make_node("Add", ["moved", "half"], ["placed"]),
            make_node("Split", ["placed"], ["centre", "rest"], axis=1, num_outputs=2),
            make_node("Mul", ["previous_size", "growth"], ["size"]),
            make_node("Concat", ["centre", "size"], ["box"], axis=1),
            make_node("ReduceMean", ["rest", "last"], ["score"], keepdims=0),
        ],
        {
            "search": (TensorProto.UINT8, [batch, 255, 255, 3]),
            "memory": (TensorProto.FLOAT, [batch, 3]),
            "previous_size": (TensorProto.FLOAT, [batch, 2]),
        },
        {"box": (TensorProto.FLOAT, [batch, 4]), "score": (TensorProto.FLOAT, [batch])},
    )
    manifest: dict[str, Any] = {
        "format": 1,
        "name": "size",
        "family": "toy",
        "batch": batch,
        "recipe": {},
        **NANOTRACK_SECTIONS,
        "presence_threshold": 0.25,
        "precisions": {"fp32": {"template": {"file": "template.onnx"}, "track": {"file": "track.onnx"}}},
        "inputs": [
            {"graph": graph, "name": value.name}
            for graph, model in (("template", template), ("track", track))
            for value in model.graph.input
        ],
    }
    files = {"template.onnx": template.SerializeToString(), "track.onnx": track.SerializeToString()}
    return write_bundle(folder, manifest, files)


def _graph(nodes: list[Any], inputs: dict[str, Any], outputs: dict[str, Any]) -> onnx.ModelProto:
    constants = {
        "axes": np.array([1, 2]),
        "last": np.array([1]),
        "step": np.float32(0.002),
        "half": np.float32(0.5),
        "growth": np.float32(1.02 / 255),
    }
    used = {name for node in nodes for name in node.input}
    graph = make_graph(
        nodes,
        "graph",
        [make_tensor_value_info(name, *kind) for name, kind in inputs.items()],
        [make_tensor_value_info(name, *kind) for name, kind in outputs.items()],
        [from_array(value, name) for name, value in constants.items() if name in used],
    )
    model = make_model(graph, opset_imports=[make_opsetid("", 20)], ir_version=9)
    return onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
