"""ONNX files without the onnx package: the few protobuf fields that the runtime reads or adds."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

from jntrt.runtime.errors import UserError

_GRAPH, _METADATA = 7, 14  # field numbers: in ModelProto
_NODE, _GRAPH_OUTPUT, _VALUE_INFO = 1, 12, 13  # in GraphProto
_INPUT, _OUTPUT, _NAME, _OP_TYPE = 1, 2, 3, 4  # in NodeProto
_VALUE_NAME = 1  # in ValueInfoProto
_KEY, _VALUE = 1, 2  # in StringStringEntryProto


@dataclass(frozen=True)
class Node:
    """One node of a graph, without its attributes."""

    op_type: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def read_nodes(model: bytes) -> list[Node]:
    """The nodes of a serialised ONNX model. Raises UserError when the bytes are no protobuf message."""
    nodes = []
    for number, graph in fields(memoryview(model)):
        if number != _GRAPH:
            continue
        for inner, content in fields(graph):
            if inner == _NODE:
                parts: dict[int, list[str]] = {_INPUT: [], _OUTPUT: [], _NAME: [], _OP_TYPE: []}
                for field, value in fields(content):
                    if field in parts:
                        parts[field].append(str(value, "utf-8", "replace"))
                name, op_type = "".join(parts[_NAME]), "".join(parts[_OP_TYPE])
                nodes.append(Node(op_type, name, tuple(parts[_INPUT]), tuple(parts[_OUTPUT])))
    return nodes


def read_kept_names(model: bytes) -> list[str]:
    """Names of the tensors that are sets of kept tokens, as the model's metadata has them (`jntrt.kept`).

    Raises UserError where they are no list of names.
    """
    for number, entry in fields(memoryview(model)):
        if number != _METADATA:
            continue
        said = {field: str(value, "utf-8", "replace") for field, value in fields(entry)}
        if said.get(_KEY) != "jntrt.kept":
            continue
        try:
            names = json.loads(said.get(_VALUE, ""))
        except (ValueError, RecursionError):
            names = None
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise UserError("jntrt.kept in the graph's metadata is no list of names: export the bundle again")
        return names
    return []


def with_outputs(model: bytes, names: list[str]) -> bytes:
    """The serialised model, which also returns these interior tensors; each must have its type recorded.

    Nothing is parsed and written again: protobuf merges a second graph field into the first, so the new
    outputs are appended behind the file.
    """
    infos = {}
    for number, graph in fields(memoryview(model)):
        if number == _GRAPH:
            for inner, content in fields(graph):
                if inner == _VALUE_INFO:
                    for field, value in fields(content):
                        if field == _VALUE_NAME:
                            infos[str(value, "utf-8", "replace")] = bytes(content)
    unknown = [name for name in names if name not in infos]
    if unknown:
        raise UserError(f"the graph records no type for {unknown[0]}: export the bundle again")
    return model + _field(_GRAPH, b"".join(_field(_GRAPH_OUTPUT, infos[name]) for name in names))


def fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """(number, content) of the length-delimited fields of a protobuf message; others are skipped."""
    for number, value in all_fields(message):
        if isinstance(value, memoryview):
            yield number, value


def all_fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """(number, value or content) of the fields of a protobuf message; of fixed-size numbers 0."""
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, position = _varint(message, position)
            yield number, value
        elif kind in (1, 5):
            position += 8 if kind == 1 else 4
            yield number, 0
        elif kind == 2:
            length, position = _varint(message, position)
            if position + length > len(message):
                raise UserError("the graph's file is damaged: export the bundle again")
            yield number, message[position : position + length]
            position += length
        else:
            raise UserError("the graph's file is damaged: export the bundle again")


def packed(content: memoryview) -> Iterator[int]:
    """The numbers of a packed field."""
    position = 0
    while position < len(content):
        value, position = _varint(content, position)
        yield value


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while position < len(message) and shift < 64:
        byte = message[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if not byte & 0x80:
            return value, position
    raise UserError("the graph's file is damaged: export the bundle again")


def _field(number: int, content: bytes) -> bytes:
    return _write_varint(number << 3 | 2) + _write_varint(len(content)) + content


def _write_varint(value: int) -> bytes:
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)
