"""A tiny Siamese tracker of MobileNet's parts with random weights: what calibration meets outside transformers."""

import json

import numpy as np
from jntrt.calib.precisions.candidate import Models
from jntrt.export.onnx.writer import FLOAT, UINT8, OnnxWriter

WIDTH = 16  # channels
KERNEL, SEARCH = 32, 64  # crops
CELLS = 13  # of the correlation's map: 16 - 4 + 1


class _Network:
    """Writes MobileNet's parts; remembers which nodes have which role."""

    def __init__(self, name: str) -> None:
        self.writer = OnnxWriter(name, {})
        self.rng = np.random.default_rng(3)  # the same weights in both graphs
        self.int8: list[str] = []
        self.float32: list[str] = []

    def op(self, kind, *inputs, place, **attributes):
        return self.writer.op(kind, *inputs, place=place, **attributes)

    def constant(self, array, place):
        return self.writer.constant(np.asarray(array), place)

    def decode(self, kind, *inputs, place, **attributes):
        self.float32.append(place)
        return self.op(kind, *inputs, place=place, **attributes)

    def conv(self, x, inputs, outputs, place, *, side=1, stride=1, groups=1, int8=True):
        weight = self.rng.normal(
            0, (inputs // groups * side * side) ** -0.5, (outputs, inputs // groups, side, side)
        )
        if int8:
            self.int8.append(place)
        return self.op(
            "Conv",
            x,
            self.constant(weight.astype(np.float32), f"{place}/weight"),
            self.constant(self.rng.normal(0, 0.1, outputs).astype(np.float32), f"{place}/bias"),
            place=place,
            kernel_shape=[side, side],
            pads=[side // 2] * 4,
            strides=[stride, stride],
            group=groups,
        )

    def backbone(self, image, size):
        """uint8 1×size×size×3 → 1×16×(size/4)×(size/4)."""
        w = WIDTH
        x = self.op("Cast", image, place="image/float", to=FLOAT)
        x = self.op("Mul", x, self.constant(np.float32(1 / 128), "image/scale_by"), place="image/scale")
        x = self.op("Sub", x, self.constant(np.float32(1), "image/mean"), place="image/centred")
        x = self.op("Transpose", x, place="image/channels", perm=[0, 3, 1, 2])
        x = self.op("HardSwish", self.conv(x, 3, w, "stem", side=3, stride=2, int8=False), place="stem/act")
        # An inverted bottleneck: expansion, depth-wise, squeeze and excitation, projection, sum.
        y = self.op("HardSwish", self.conv(x, w, 2 * w, "block/expand"), place="block/expand/act")
        y = self.op(
            "Relu", self.conv(y, 2 * w, 2 * w, "block/depth", side=3, groups=2 * w), place="block/depth/relu"
        )
        s = self.op("GlobalAveragePool", y, place="block/se/pool")
        s = self.op("Relu", self.conv(s, 2 * w, 8, "block/se/reduce", int8=False), place="block/se/relu")
        s = self.conv(s, 8, 2 * w, "block/se/expand", int8=False)
        s = self.op("HardSigmoid", s, place="block/se/gate", alpha=1 / 6, beta=0.5)
        y = self.op("Mul", y, s, place="block/se")
        x = self.op("Add", x, self.conv(y, 2 * w, w, "block/project"), place="block")
        return self.conv(x, w, w, "neck", side=3, stride=2)

    def model(self):
        roles = {"int8": self.int8, "float32": self.float32, "kept": []}
        return self.writer.model({f"jntrt.{name}": json.dumps(names) for name, names in roles.items()})


def siamese_models() -> Models:
    """`template` 1×32×32×3 → `kernel`; `search` 1×64×64×3, `kernel` and `previous_size` 1×2 → box, score."""
    n = _Network("template")
    image = n.writer.input("template", UINT8, (1, KERNEL, KERNEL, 3))
    x = n.backbone(image, KERNEL)
    crop = [
        n.constant(np.array(v, np.int64), f"crop/{k}")
        for k, v in (("from", [2, 2]), ("to", [6, 6]), ("axes", [2, 3]))
    ]
    n.writer.output(n.op("Slice", x, *crop, place="crop"), "kernel", FLOAT, (1, WIDTH, 4, 4))
    n.int8 = []  # the template graph runs once
    template = n.model()

    n = _Network("track")
    image = n.writer.input("search", UINT8, (1, SEARCH, SEARCH, 3))
    kernel = n.writer.input("kernel", FLOAT, (1, WIDTH, 4, 4))
    previous = n.writer.input("previous_size", FLOAT, (1, 2))
    x = n.backbone(image, SEARCH)
    shape = n.constant(np.array([WIDTH, 1, 4, 4], np.int64), "correlation/shape")
    kernel = n.op("Reshape", kernel, shape, place="correlation/kernel")
    x = n.op("Conv", x, kernel, place="correlation", group=WIDTH, kernel_shape=[4, 4])
    zero, six = (n.constant(np.float32(v), f"head/{v}") for v in (0, 6))
    x = n.conv(x, WIDTH, WIDTH, "head/depth", side=3, groups=WIDTH)
    x = n.op("Clip", x, zero, six, place="head/depth/act")
    x = n.op("Clip", n.conv(x, WIDTH, 2 * WIDTH, "head/point"), zero, six, place="head/point/act")
    box = _decode(n, n.conv(x, 2 * WIDTH, 4, "head/loc"), previous, n.conv(x, 2 * WIDTH, 2, "head/cls"))
    for value, name, size in zip(box, ("box", "score"), ((1, 4), (1,)), strict=True):
        n.writer.output(value, name, FLOAT, size)
    return Models(template, n.model())


def _decode(n, distances, previous, logits):
    """Softmax, a penalty for a change of size, arg-max, and the box there."""
    count = CELLS * CELLS

    def rows(x, channels, place):
        x = n.op(
            "Reshape",
            x,
            n.constant(np.array([channels, count], np.int64), f"{place}/shape"),
            place=f"{place}/flat",
        )
        return n.op("Transpose", x, place=place, perm=[1, 0])

    one = n.constant(np.array([1], np.int64), "decode/one")
    probability = n.decode("Softmax", rows(logits, 2, "head/cls/rows"), place="decode/softmax", axis=-1)
    score = n.decode("Gather", probability, one, place="decode/score", axis=1)
    quarter = n.constant(np.float32(0.25), "decode/quarter")
    sides = n.decode("Mul", rows(distances, 4, "head/loc/rows"), quarter, place="decode/scaled")
    sides = n.decode("Exp", sides, place="decode/sides")
    halves = n.constant(np.array([2, 2], np.int64), "decode/halves")
    n.float32.append("decode/split")
    low, high = n.writer.many("Split", sides, halves, places=["decode/low", "decode/high"], axis=1)
    n.float32[-1] = "decode/split"
    size = n.decode("Add", low, high, place="decode/size")
    ratio = n.decode("Div", size, previous, place="decode/ratio")
    inverse = n.decode("Div", previous, size, place="decode/inverse")
    change = n.decode(
        "ReduceMax", n.decode("Max", ratio, inverse, place="decode/larger"), one, place="decode/change"
    )
    penalty = n.decode(
        "Exp",
        n.decode("Mul", change, n.constant(np.float32(-0.01), "decode/k"), place="decode/minus"),
        place="decode/penalty",
    )
    ranked = n.decode("Mul", score, penalty, place="decode/ranked")
    best = n.decode("ArgMax", ranked, place="decode/best", axis=0, keepdims=0)
    y, x = np.divmod(np.arange(count), CELLS)
    table = (np.stack((x, y), 1) / CELLS).astype(np.float32)
    point = n.decode("Gather", n.constant(table, "decode/points"), best, place="decode/point", axis=0)
    extent = n.decode("Gather", size, best, place="decode/extent", axis=0)
    eighth = n.constant(np.float32(1 / 8), "decode/eighth")
    extent = n.decode("Mul", extent, eighth, place="decode/width_height")
    box = n.decode("Concat", point, extent, place="decode/box", axis=1)
    chosen = n.decode("Gather", score, best, place="decode/chosen", axis=0)
    flat = n.constant(np.array([1], np.int64), "decode/flat")
    return box, n.decode("Reshape", chosen, flat, place="decode/presence")


def siamese_feeds(seed: int = 0) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Inputs of the template graph, and those of the track graph that are no memory."""
    rng = np.random.default_rng(seed)
    images = [rng.integers(0, 256, (1, size, size, 3), np.uint8) for size in (KERNEL, SEARCH)]
    return {"template": images[0]}, {"search": images[1], "previous_size": np.array([[20, 24]], np.float32)}
