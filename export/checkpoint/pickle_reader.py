"""Reads the pickle stream of a checkpoint and runs nothing of it.

A pickle is a program for a small stack machine; what makes it dangerous is that it may call what it names.
This machine has no call at all: a name stays a name (`Global`), calling one gives a `Placeholder` that
records what it was called with, and only the few names that torch itself writes for tensors become
descriptions of tensors (`TensorRef`), whose bytes are read elsewhere. Opcodes are decoded by `pickletools`.
"""

from __future__ import annotations

import pickletools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, Any

MAX_PICKLE_BYTES = 16 << 20
"""A ViT-B checkpoint with its optimiser has 0.3 MB of pickle; each byte of it may cost about 60 in memory."""

MAX_KEY = 1 << 60
"""Whole numbers that are keys stay below: optimisers count their parameters."""

DTYPES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
    "UntypedStorage": "uint8",
}


class PickleError(ValueError):
    """The stream is not a pickle that a checkpoint could hold; the message says why."""


@dataclass(frozen=True)
class Global:
    """A name in the stream, as `module.name`; never looked up."""

    name: str


@dataclass
class Placeholder:
    """What the stream wanted an object for: the name called, its arguments, and the state it was given."""

    name: str
    args: object = ()
    state: object = None
    items: dict[Any, Any] = field(default_factory=dict)

    def get(self, key: str) -> object:
        """Attribute `key` of the state, None when there is none."""
        states = self.state if isinstance(self.state, tuple) else (self.state,)
        for state in (*states, self.items):
            if isinstance(state, dict) and key in state:
                return state[key]
        return None


@dataclass(frozen=True)
class StorageRef:
    """A storage by its key: `count` elements of `dtype`; a `view` starts `offset` elements into it."""

    key: str
    dtype: str
    count: int
    offset: int = 0
    view: bool = False


@dataclass(frozen=True)
class TensorRef:
    """A strided view into a storage. `offset` and `strides` in elements of `dtype`."""

    storage: StorageRef
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


_MARK = object()
_Scalar = str | bytes | int | float | bool | None


@dataclass
class Seen:
    """What a stream spoke of: names of code, and storages by their key."""

    names: set[str] = field(default_factory=set)
    storages: dict[str, StorageRef] = field(default_factory=dict)


def read_pickle(stream: IO[bytes], seen: Seen | None = None) -> Any:
    """The value of the next pickle of `stream`, which is left behind its end.

    Dictionaries, lists, tuples and scalars are themselves, sets are lists, everything else is a `TensorRef`,
    `StorageRef`, `Global` or `Placeholder`. All names and storages met are added to `seen`.

    Raises `PickleError` for anything that is not a whole, sound pickle of at most `MAX_PICKLE_BYTES`.
    """
    machine = _Machine(seen or Seen())
    try:
        return machine.run(pickletools.genops(stream))
    except PickleError:
        raise
    except (IndexError, KeyError, ValueError, TypeError, OverflowError, AttributeError) as error:
        # What pickletools and the machine raise on a damaged stream: an empty stack, an unknown memo entry,
        # an argument of another type.
        told = " ".join(str(error).split())
        raise PickleError(f"the pickle is damaged ({type(error).__name__}: {told:.120})") from None


class _Machine:
    def __init__(self, seen: Seen) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.seen = seen

    def run(self, opcodes: Iterator[tuple[pickletools.OpcodeInfo, Any, int | None]]) -> Any:
        start: int | None = None
        for opcode, argument, position in opcodes:
            start = position if start is None else start
            if (position or 0) - (start or 0) > MAX_PICKLE_BYTES:
                raise PickleError(f"the pickle is longer than {MAX_PICKLE_BYTES >> 20} MB")
            if opcode.name == "STOP":
                return self.pop()
            self.step(opcode.name, argument)
        raise PickleError("the pickle has no end")

    def pop(self) -> Any:
        value = self.stack.pop()
        if value is _MARK:
            raise PickleError("a mark where a value should be")
        return value

    def top(self) -> Any:
        return self.stack[-1]

    def to_mark(self) -> list[Any]:
        for index in range(len(self.stack) - 1, -1, -1):
            if self.stack[index] is _MARK:
                values = self.stack[index + 1 :]
                del self.stack[index:]
                return values
        raise PickleError("no mark")

    def name(self, module: object, name: object) -> Global:
        if not (isinstance(module, str) and isinstance(name, str)):
            raise PickleError("a name that is not text")
        self.seen.names.add(f"{module}.{name}")
        return Global(f"{module}.{name}")

    def step(self, op: str, arg: Any) -> None:
        stack = self.stack
        match op:
            case "PROTO" | "FRAME":
                pass
            case "MARK":
                stack.append(_MARK)
            case "POP":
                stack.pop()
            case "POP_MARK":
                self.to_mark()
            case "DUP":
                stack.append(self.top())
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                self.memo[arg] = self.top()
            case "MEMOIZE":
                self.memo[len(self.memo)] = self.top()
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(self.memo[arg])
            case "NONE":
                stack.append(None)
            case "NEWTRUE" | "NEWFALSE":
                stack.append(op == "NEWTRUE")
            case "INT" | "BININT" | "BININT1" | "BININT2" | "LONG" | "LONG1" | "LONG4" | "FLOAT" | "BINFLOAT":
                stack.append(arg)
            case "STRING" | "BINSTRING" | "SHORT_BINSTRING" | "UNICODE" | "SHORT_BINUNICODE" | "BINUNICODE":
                stack.append(arg)
            case "BINUNICODE8" | "BINBYTES" | "SHORT_BINBYTES" | "BINBYTES8" | "BYTEARRAY8":
                stack.append(arg)
            case "EMPTY_TUPLE":
                stack.append(())
            case "TUPLE":
                stack.append(tuple(self.to_mark()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                values = [self.pop() for _ in range(int(op[-1]))]
                stack.append(tuple(reversed(values)))
            case "EMPTY_LIST" | "EMPTY_SET":
                stack.append([])
            case "LIST" | "FROZENSET":
                stack.append(self.to_mark())
            case "APPEND":
                value = self.pop()
                self.extend([value])
            case "APPENDS" | "ADDITEMS":
                self.extend(self.to_mark())
            case "EMPTY_DICT":
                stack.append({})
            case "DICT":
                values = self.to_mark()
                stack.append({})
                self.update(values)
            case "SETITEM":
                value, key = self.pop(), self.pop()
                self.update([key, value])
            case "SETITEMS":
                self.update(self.to_mark())
            case "GLOBAL":
                stack.append(self.name(*arg.split(" ", 1)))
            case "STACK_GLOBAL":
                name, module = self.pop(), self.pop()
                stack.append(self.name(module, name))
            case "INST":
                called = self.name(*arg.split(" ", 1))
                stack.append(_call(called, tuple(self.to_mark())))
            case "OBJ":
                called, *arguments = self.to_mark()
                stack.append(_call(called, tuple(arguments)))
            case "REDUCE" | "NEWOBJ":
                arguments, called = self.pop(), self.pop()
                stack.append(_call(called, arguments))
            case "NEWOBJ_EX":
                _, arguments, called = self.pop(), self.pop(), self.pop()
                stack.append(_call(called, arguments))
            case "BUILD":
                state = self.pop()
                if isinstance(self.top(), Placeholder):
                    self.top().state = state
            case "PERSID":
                stack.append(Placeholder("persistent", (arg,)))
            case "BINPERSID":
                storage = _storage(self.pop())
                self.seen.storages[storage.key] = storage
                stack.append(storage)
            case _:
                raise PickleError(f"opcode {op} has no place in a checkpoint")

    def extend(self, values: list[Any]) -> None:
        # Placeholders swallow what they are given; a list, tuple or other object of the stream is as it is.
        if isinstance(self.top(), list):
            self.top().extend(values)
        elif not isinstance(self.top(), Placeholder):
            raise PickleError("items for something that is no list")

    def update(self, values: list[Any]) -> None:
        target = self.top()
        items = target.items if isinstance(target, Placeholder) else target
        if not isinstance(items, dict) or len(values) % 2:
            raise PickleError("entries for something that is no dictionary")
        for key, value in zip(values[::2], values[1::2], strict=True):
            # Left out: what can be made to take for ever. Nested tuples do when they are hashed; whole
            # numbers from about 2⁶¹ on can all have one hash, and more digits than Python writes.
            if isinstance(key, _Scalar) and not (isinstance(key, int) and abs(key) >= MAX_KEY):
                items[key] = value


def _call(called: object, arguments: object) -> object:
    name = called.name if isinstance(called, Global) else ""
    if not isinstance(arguments, tuple):
        raise PickleError("arguments that are no tuple")
    match name.removeprefix("torch._utils."), arguments:
        case (("collections.OrderedDict" | "collections.defaultdict"), _):
            return {}
        case "torch.Size", (tuple(size),):
            return size
        case (("_rebuild_parameter" | "_rebuild_parameter_with_state"), (TensorRef() as tensor, *_)):
            return tensor
        case (
            ("_rebuild_tensor" | "_rebuild_tensor_v2"),
            (StorageRef() as storage, offset, shape, strides, *_),
        ):
            return _tensor(storage, storage.dtype, offset, shape, strides)
        case "_rebuild_tensor_v3", (
            StorageRef() as storage,
            offset,
            shape,
            strides,
            _,
            _,
            Global() as dtype,
            *_,
        ):
            return _tensor(storage, dtype.name.removeprefix("torch."), offset, shape, strides)
        case "torch._tensor._rebuild_from_type_v2", (
            Global(name="torch._utils._rebuild_tensor_v2") as g,
            _,
            tuple(inner),
            *_,
        ):
            return _call(g, inner)
    return Placeholder(name or "unknown", arguments)


def _natural(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 62:
        raise PickleError("a size that is no size")
    return value


def _tensor(storage: StorageRef, dtype: str, offset: object, shape: object, strides: object) -> TensorRef:
    if not (isinstance(shape, tuple) and isinstance(strides, tuple) and len(shape) == len(strides) <= 16):
        raise PickleError("a tensor whose shape and strides do not belong together")
    sizes, steps = tuple(map(_natural, shape)), tuple(map(_natural, strides))
    return TensorRef(storage, dtype, _natural(offset), sizes, steps)


def _storage(value: object) -> StorageRef:
    match value:
        case ("storage", Global(name=name), str(key), str(), count, *rest):
            dtype = DTYPES.get(name.rpartition(".")[2]) if name.startswith("torch.") else None
            if dtype is None:
                raise PickleError(f"storage type {name!r:.60} is unknown")
            match rest:
                case [(str(), offset, view)]:  # the legacy format's view into another storage
                    return StorageRef(key, dtype, _natural(view), _natural(offset), view=True)
            return StorageRef(key, dtype, _natural(count))
    raise PickleError("a persistent id that names no storage")
