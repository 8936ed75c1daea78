"""Grey crops, 4×4 means, the template's middle as a fixed kernel, the expected place under a softmax."""

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from jntrt.export.families.plain import PlainForm
from jntrt.export.onnx.roles import Roles

from .family import CELL, KERNEL

LOW = 2  # first cell of the template's middle
DECODING = ("gained", "places", "centre", "size", "box", "best", "logit", "score")


class Toy(PlainForm):
    def __init__(self, recipe):
        super().__init__(recipe)
        self.toy = torch.nn.ModuleDict({"mix": torch.nn.Conv2d(3, 1, 1)})
        self.bias = torch.nn.Parameter(torch.zeros(1))
        self.register_buffer("grid", torch.from_numpy(grid(recipe)), persistent=False)

    def normalise(self, crop):
        return (crop.float() / 255).permute(0, 3, 1, 2)

    def forward(self, template, search, previous_size):
        z, x = (torch.nn.functional.avg_pool2d(self.toy["mix"](c), CELL) for c in (template, search))
        kernel = z[:, :, LOW : LOW + KERNEL, LOW : LOW + KERNEL]
        kernel = kernel - kernel.mean(dim=(2, 3), keepdim=True)
        scores = torch.nn.functional.conv2d(x.transpose(0, 1), kernel, groups=len(x)).flatten(2)[0]
        centre = (self.recipe.gain * scores).softmax(dim=1) @ self.grid
        logit = scores.amax(dim=1) + self.bias
        return {"box": torch.cat((centre, previous_size / self.recipe.search_size), dim=1), "logit": logit}

    def predict(self, inputs, kept=None):
        out = self(inputs["template"], inputs["search"], inputs["previous_size"])
        return {"box": out["box"], "score": out["logit"].sigmoid()}


def grid(recipe):
    """Centres of the kernel's places, in units of the search crop."""
    cells = (np.arange(recipe.side, dtype=np.float32) + KERNEL / 2) * CELL / recipe.search_size
    y, x = np.meshgrid(cells, cells, indexing="ij")
    return np.stack((x.ravel(), y.ravel()), axis=1).astype(np.float32)


def build(recipe, weights, batch):
    side = recipe.side
    value = helper.make_tensor_value_info
    kernel = value("kernel", TensorProto.FLOAT, [batch, 1, KERNEL, KERNEL])
    # The mean of a mixture is one convolution.
    mix = (weights["toy.mix.weight"] / 255 / CELL**2).astype(np.float32)
    shared = {
        "mix": np.tile(mix, (1, 1, CELL, CELL)),
        "toy.mix.bias": weights["toy.mix.bias"].astype(np.float32),
    }
    template = _graph(
        "template",
        [
            *_embed("template", "z"),
            ("Slice", ["z", "low", "high", "axes"], "middle", {}),
            ("ReduceMean", ["middle", "axes"], "level", {"keepdims": 1}),
            ("Sub", ["middle", "level"], "kernel", {}),
        ],
        [value("template", TensorProto.UINT8, [batch, *[recipe.template_size] * 2, 3])],
        [kernel],
        {**shared, "low": [LOW] * 2, "high": [LOW + KERNEL] * 2, "axes": [2, 3]},
        Roles(),
    )
    track = _graph(
        "track",
        [
            *_embed("search", "x"),
            ("Transpose", ["x"], "planes", {"perm": [1, 0, 2, 3]}),
            ("Conv", ["planes", "kernel"], "map", {"group": batch, "kernel_shape": [KERNEL] * 2}),
            ("Reshape", ["map", "flat"], "head/score_map", {}),
            ("Mul", ["head/score_map", "gain"], "gained", {}),
            ("Softmax", ["gained"], "places", {"axis": 1}),
            ("MatMul", ["places", "grid"], "centre", {}),
            ("Mul", ["previous_size", "per_pixel"], "size", {}),
            ("Concat", ["centre", "size"], "box", {"axis": 1}),
            ("ReduceMax", ["head/score_map", "axis"], "best", {"keepdims": 0}),
            ("Add", ["best", "bias"], "logit", {}),
            ("Sigmoid", ["logit"], "score", {}),
        ],
        [
            value("search", TensorProto.UINT8, [batch, *[recipe.search_size] * 2, 3]),
            kernel,
            value("previous_size", TensorProto.FLOAT, [batch, 2]),
        ],
        [value("box", TensorProto.FLOAT, [batch, 4]), value("score", TensorProto.FLOAT, [batch])],
        {
            **shared,
            "bias": weights["bias"].astype(np.float32),
            "flat": [batch, side**2],
            "gain": np.float32(recipe.gain),
            "grid": grid(recipe),
            "per_pixel": np.float32(1 / recipe.search_size),
            "axis": [1],
        },
        Roles(int8=("x/op",), float32=tuple(f"{out}/op" for out in DECODING), interior=("head/score_map",)),
    )
    return template, track


def _embed(image, out):
    return [
        ("Cast", [image], f"{image}/float", {"to": TensorProto.FLOAT}),
        ("Transpose", [f"{image}/float"], f"{image}/planes", {"perm": [0, 3, 1, 2]}),
        ("Conv", [f"{image}/planes", "mix", "toy.mix.bias"], out, {"strides": [CELL] * 2}),
    ]


def _graph(name, nodes, inputs, outputs, constants, roles):
    made = [helper.make_node(kind, given, [out], f"{out}/op", **more) for kind, given, out, more in nodes]
    tensors = [numpy_helper.from_array(np.asarray(array), key) for key, array in constants.items()]
    graph = helper.make_graph(made, name, inputs, outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    helper.set_model_props(model, roles.to_metadata())
    return onnx.shape_inference.infer_shapes(model)
