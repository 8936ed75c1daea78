"""A tiny Siamese tracker of MobileNet's parts with random weights: what transformers do not have."""

import numpy as np

from jntrt.calib.precisions.candidate import Models
from jntrt.export.onnx.layers import concat, convolution, correlation
from jntrt.export.onnx.value import Value
from jntrt.export.onnx.writer import FLOAT, UINT8, OnnxWriter

WIDTH = 16  # channels
TEMPLATE, SEARCH = 32, 64  # crops
CELLS = 5  # a side of the map: 8 - 4 + 1


class Network:
    """Writes the parts; the same weights whenever it begins."""

    def __init__(self, name: str) -> None:
        self.graph = OnnxWriter(name, {}, ["Exp"])
        self.rng = np.random.default_rng(3)

    def number(self, value: float, name: str) -> Value:
        return self.graph.constant(np.float32(value), name)

    def conv(self, x: Value, inputs: int, outputs: int, name: str, *, side=1, stride=1, groups=1) -> Value:
        fan = inputs // groups * side * side
        kernel = self.rng.normal(0, fan**-0.5, (outputs, inputs // groups, side, side))
        bias = self.rng.normal(0, 0.1, outputs)
        arrays = (kernel.astype(np.float32), bias.astype(np.float32))
        return convolution(x, *arrays, name, stride=stride, padding=side // 2, groups=groups)

    def backbone(self, image: Value) -> Value:
        """uint8 1×S×S×3 → 1×16×S/8×S/8: a stem, a pooling, an inverted bottleneck and a neck."""
        w, graph = WIDTH, self.graph
        x = image.float("image") * self.number(1 / 128, "image/step") - self.number(1, "image/mean")
        x = self.conv(x.transpose(0, 3, 1, 2), 3, w, "stem", side=3, stride=2).hard_swish("stem/act")
        x = graph.op("MaxPool", x, name="pool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
        with graph.scope("block"):
            with graph.role("int8"):
                y = self.conv(x, w, 2 * w, "expand").hard_swish("expand/act")
                y = self.conv(y, 2 * w, 2 * w, "depth", side=3, groups=2 * w).relu("depth/relu")
            squeezed = self.conv(y.global_average_pool("pool"), 2 * w, 8, "reduce").relu("reduce/relu")
            y = y * self.conv(squeezed, 8, 2 * w, "excite").hard_sigmoid("gate")
            with graph.role("int8"):
                x = (x + self.conv(y, 2 * w, w, "project")).named("sum")
        with graph.role("int8"):
            return self.conv(x, w, w, "neck", side=3, stride=2)


def siamese_models() -> Models:
    """`template` 1×32×32×3 → `kernel`; `search` 1×64×64×3, `kernel` and `previous_size` 1×2 → box, score."""
    network = Network("template")
    image = network.graph.input("template", UINT8, (1, TEMPLATE, TEMPLATE, 3))
    network.graph.output(network.backbone(image), "kernel", FLOAT, (1, WIDTH, 4, 4))
    template = network.graph.model({})

    network = Network("track")
    graph = network.graph
    image = graph.input("search", UINT8, (1, SEARCH, SEARCH, 3))
    kernel = graph.input("kernel", FLOAT, (1, WIDTH, 4, 4))
    previous = graph.input("previous_size", FLOAT, (1, 2))
    x = network.backbone(image)
    x = correlation(x, kernel.reshape(WIDTH, 1, 4, 4, name="kernels"), "correlation", groups=WIDTH)
    zero, six = network.number(0, "head/zero"), network.number(6, "head/six")
    with graph.scope("head"), graph.role("int8"):
        x = network.conv(x, WIDTH, WIDTH, "depth", side=3, groups=WIDTH).clip(zero, six, "depth/act")
        x = network.conv(x, WIDTH, 2 * WIDTH, "point").clip(zero, six, "point/act")
        distances, logits = network.conv(x, 2 * WIDTH, 4, "loc"), network.conv(x, 2 * WIDTH, 2, "cls")
    with graph.scope("decode"), graph.role("float32"):
        box, score = _decode(network, distances, logits, previous)
    graph.output(box, "box", FLOAT, (1, 4))
    graph.output(score, "score", FLOAT, (1,))
    return Models(template, graph.model({}))


def _decode(network: Network, distances: Value, logits: Value, previous: Value) -> tuple[Value, Value]:
    """Softmax, a penalty for a change of size, arg-max, and the box there."""
    graph, count = network.graph, CELLS * CELLS
    rows = [
        x.reshape(-1, count, name=f"{name}/flat").transpose(1, 0, name=f"{name}/rows")
        for x, name in ((distances, "sides"), (logits, "class"))
    ]
    score = rows[1].softmax(-1).slice(1, 2, 1, "score")
    low, high = rows[0].exp("sides").split([2, 2], 1, ["low", "high"])
    size = (low + high).named("size")
    change = (
        (size / previous).named("ratio").maximum((previous / size).named("inverse")).max([1], True, "change")
    )
    penalty = (change * network.number(-0.01, "strength")).named("minus").exp("penalty")
    ranked = (score * penalty).named("ranked").reshape(count, name="ranked/flat")
    best = ranked.argmax(0).reshape(1, name="best")
    y, x = np.divmod(np.arange(count), CELLS)
    points = graph.constant((np.stack((x, y), 1) / CELLS).astype(np.float32), "points")
    extent = (size.take(best, name="size_at") * network.number(0.1, "unit")).named("extent")
    box = concat([points.take(best, name="point"), extent], 1, "box_at")
    return box, score.take(best, name="score_at").reshape(1, name="presence")


def siamese_feeds(seed: int = 0) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Inputs of the template graph, and those of the track graph that are no memory."""
    rng = np.random.default_rng(seed)
    images = [rng.integers(0, 256, (1, size, size, 3), np.uint8) for size in (TEMPLATE, SEARCH)]
    return {"template": images[0]}, {"search": images[1], "previous_size": np.array([[20, 24]], np.float32)}
