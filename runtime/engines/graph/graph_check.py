"""What an ONNX file must not hold before an engine may open it.

Engines believe a graph: they read the files that it names, print the names in it, and run what it loops over.
So the file's own bytes are looked at first, without an engine: nothing outside the file, no functions, no
graph within a graph, only tensors of plain types and known shapes, only text that can be printed.
"""

import math
import mmap
from collections.abc import Iterator
from pathlib import Path

from jntrt.runtime.engines.graph.graph_work import Shape, excess
from jntrt.runtime.engines.graph.onnx_bytes import Node, all_fields, packed
from jntrt.runtime.errors import UserError

MAX_FIELDS = 2_000_000  # a ViT-L's int8 graph has about 60,000
MAX_NAME = 1024  # bytes
MAX_PORTS = 256  # inputs and outputs of a graph
MAX_PORT_ELEMENTS = 1 << 28

DOMAINS = ("", "ai.onnx")
# Those with graphs inside are refused by their attributes as well, whatever they are called.
FORBIDDEN = ("If", "Loop", "Scan", "SequenceMap", "NonZero", "Resize", "Shape")
# TensorProto.DataType, in NumPy's names.
PORT_TYPES = {
    1: "float32",
    2: "uint8",
    3: "int8",
    6: "int32",
    7: "int64",
    9: "bool",
    10: "float16",
    11: "float64",
    16: "bfloat16",
}
_STRING = 8


def check_graph_file(file: Path) -> None:
    """Raises UserError, in one line, where an engine should not see the ONNX file."""
    try:
        with file.open("rb") as stream:
            # Let go and not closed: Ctrl-C within the walk leaves views of it alive, and closing fails.
            wrong = _wrong(memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)))
    except (OSError, ValueError):
        raise UserError(f"{file} cannot be read: export the bundle again") from None
    if wrong:
        raise UserError(f"{file}: jntrt refuses the graph: {wrong}; export the bundle again")


def recorded_shapes(file: Path) -> dict[str, Shape]:
    """The shape that a checked ONNX file records for each of its tensors, by name."""
    walk = _Walk()
    walk.model(memoryview(file.read_bytes()))
    return walk.shapes


def recorded_ports(file: Path) -> dict[str, tuple[str, Shape]]:
    """Type, in NumPy's names, and shape of each input and output of a checked ONNX file."""
    walk = _Walk()
    walk.model(memoryview(file.read_bytes()))
    return walk.ports


def check_graph_bytes(model: bytes, shown: str) -> None:
    """The same for a serialised model; `shown` is how the message calls it."""
    wrong = _wrong(memoryview(model))
    if wrong:
        raise UserError(f"{shown}: jntrt refuses the graph: {wrong}; export the bundle again")


def _wrong(model: memoryview) -> str:
    """The first thing that is wrong with the model, or nothing."""
    try:
        walk = _Walk()
        walk.model(model)
        return excess(walk.nodes, walk.shapes, walk.constants)
    except _Refused as refusal:
        return str(refusal)
    except UserError:
        return "it is no sound ONNX file"


class _Refused(Exception):
    """What is wrong with the graph."""


class _Walk:
    """One pass over a model's fields, by their numbers in onnx.proto; each part says what it may not hold.

    `nodes`, `shapes` (as recorded), `ports` and `constants` are what it met.
    """

    def __init__(self) -> None:
        self.left = MAX_FIELDS
        self.nodes: list[Node] = []
        self.shapes: dict[str, Shape] = {}
        self.ports: dict[str, tuple[str, Shape]] = {}
        self.constants: set[str] = set()

    def fields(self, message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
        for field in all_fields(message):
            self.left -= 1
            if self.left < 0:
                raise _Refused("it has too many parts")
            yield field

    def parts(self, message: memoryview) -> Iterator[tuple[int, memoryview]]:
        for number, content in self.fields(message):
            if isinstance(content, memoryview):
                yield number, content

    def model(self, message: memoryview) -> None:
        graphs = 0
        for number, content in self.parts(message):
            if number == 7:
                graphs += 1
                self.graph(content)
            elif number == 8:
                self.opset(content)
            elif number in (20, 25):
                raise _Refused("it has functions or training steps of its own")
            elif number in (2, 3, 4):
                self.text(content)
        if not graphs:
            raise _Refused("it is no ONNX graph")

    def opset(self, message: memoryview) -> None:
        for number, content in self.parts(message):
            if number == 1 and self.text(content) not in DOMAINS:
                raise _Refused(f"it needs operators of domain {self.text(content)!r:.60}")

    def graph(self, message: memoryview) -> None:
        ports = 0
        for number, content in self.parts(message):
            if number == 1:
                self.node(content)
            elif number == 2:
                self.text(content)
            elif number == 5:
                name, shape = self.tensor(content)
                self.constants.add(name)
                self.shapes[name] = shape
            elif number in (11, 12):
                ports += 1
                if ports > MAX_PORTS:
                    raise _Refused(f"it has more than {MAX_PORTS} inputs and outputs")
                self.value(content, port=True)
            elif number == 13:
                self.value(content, port=False)
            elif number == 15:
                raise _Refused("it has sparse tensors")

    def node(self, message: memoryview) -> None:
        texts: dict[int, list[str]] = {1: [], 2: [], 3: [], 4: [], 7: []}
        for number, content in self.parts(message):
            if number == 5:
                self.attribute(content)
            elif number in texts:
                text = self.text(content)
                texts[number].append(text)
                if number == 4 and text in FORBIDDEN:
                    raise _Refused(f"it has a node of type {text}")
                if number == 7 and text not in DOMAINS:
                    raise _Refused(f"it has a node of domain {text!r:.60}")
        self.nodes.append(Node("".join(texts[4]), "".join(texts[3]), tuple(texts[1]), tuple(texts[2])))

    def attribute(self, message: memoryview) -> None:
        for number, content in self.parts(message):
            if number == 1:
                self.text(content)
            elif number in (5, 10):
                self.tensor(content)
            elif number in (6, 11):
                raise _Refused("it has a graph within a node")
            elif number in (14, 15, 22, 23):
                raise _Refused("it has an attribute of a kind that no tracker needs")

    def tensor(self, message: memoryview) -> tuple[str, Shape]:
        """The name and shape of a TensorProto, whose numbers have to be in it."""
        name, shape, stored = "", list[int](), 0
        for number, content in self.fields(message):
            match number, content:
                case 1, int(size):
                    shape.append(size)
                case 1, memoryview():
                    shape += self.packed(content)
                case 8, memoryview():
                    name = self.text(content)
                case (13, memoryview()) | (14, int(1)):
                    raise _Refused("it has external data")
                case (6, _) | (2, int(8)):
                    raise _Refused("it has strings")
                case ((4 | 5 | 7 | 9 | 10 | 11), _):
                    stored += len(content) if isinstance(content, memoryview) else 4
        if math.prod(shape) > 2 * stored:  # two four-bit numbers in a byte are the smallest there are
            raise _Refused(f"tensor {name!r:.80} has fewer numbers than its shape")
        return name, tuple(shape)

    def packed(self, content: memoryview) -> list[int]:
        if len(content) > MAX_NAME:
            raise _Refused("it has a shape of too many sides")
        return list(packed(content))

    def value(self, message: memoryview, port: bool) -> None:
        """A ValueInfoProto; a `port` is an input or output, whose type and shape have to be there."""
        name, typed = "", False
        for number, content in self.parts(message):
            if number == 1:
                name = self.text(content)
            elif number == 2:
                for kind, tensor in self.parts(content):
                    if kind != 1:
                        raise _Refused(f"{name!r:.80} is no tensor")
                    typed = True
                    self.tensor_type(name, tensor, port)
        if port and not typed:
            raise _Refused(f"{name!r:.80} has no type")

    def tensor_type(self, name: str, message: memoryview, port: bool) -> None:
        element, shaped = 0, False
        shape: list[int] = []
        for number, content in self.fields(message):
            if number == 1 and isinstance(content, int):
                element = content
                if content == _STRING or (port and content not in PORT_TYPES):
                    raise _Refused(f"{name!r:.80} is of a type that no tracker needs")
            elif number == 2 and isinstance(content, memoryview):
                shaped = True
                for part, dimension in self.parts(content):
                    if part == 1:
                        shape.append(self.size(dimension))
        if port:
            if not (element and shaped and 0 < math.prod(shape) <= MAX_PORT_ELEMENTS):
                raise _Refused(f"{name!r:.80} has no fixed type and shape of sensible size")
            self.ports[name] = (PORT_TYPES[element], tuple(shape))
        if shaped and all(shape):
            self.record(name, tuple(shape))

    def record(self, name: str, shape: Shape) -> None:
        if self.shapes.setdefault(name, shape) != shape:
            raise _Refused(f"{name!r:.80} has two shapes")

    def size(self, dimension: memoryview) -> int:
        """A dimension's size, 0 where it is open."""
        sizes = [value for number, value in self.fields(dimension) if number == 1 and isinstance(value, int)]
        return sizes[-1] if sizes else 0

    def text(self, content: memoryview) -> str:
        """A name, which an engine may print."""
        if len(content) > MAX_NAME:
            raise _Refused("it has a name that is too long")
        try:
            text = str(content, "utf-8")
        except UnicodeDecodeError:
            raise _Refused("it has a name that is no text") from None
        if not text.isprintable():
            raise _Refused("it has a name that cannot be printed")
        return text
