"""Writes operators into an ONNX graph: the one way a graph of this package comes to be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from jntrt.export.onnx.roles import ALLOWED, FLOAT32, INT8, INTERIOR, KEPT, Roles
from jntrt.export.onnx.value import Value

OPSET = 20
IR_VERSION = 9  # the one that came with opset 20; older engines refuse newer ones
UINT8, FLOAT = TensorProto.UINT8, TensorProto.FLOAT


class OnnxWriter:
    """A graph that grows: inputs, constants and operators in, checked model out.

    An initializer that is one of `weights`, the same array, keeps that name; all other names are relative to
    the scopes that are open. `allowed`: operators that this graph needs and the graph rules forbid elsewhere.
    """

    def __init__(self, name: str, weights: Mapping[str, NDArray[Any]], allowed: Sequence[str] = ()) -> None:
        self.name = name
        self._allowed = tuple(allowed)
        self._checkpoint_names = {id(array): key for key, array in weights.items()}
        self._constants: dict[str, NDArray[Any]] = {}
        self._nodes: list[onnx.NodeProto] = []
        self._node_roles: list[str | None] = []
        self._tensor_roles: dict[str, list[str]] = {KEPT: [], INTERIOR: []}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._scopes: list[str] = []
        self._role: str | None = None

    # ---- the graph's ends

    def input(self, name: str, dtype: int, shape: Sequence[int]) -> Value:
        self._inputs.append(helper.make_tensor_value_info(name, dtype, list(shape)))
        return Value(self, name)

    def output(self, value: Value, name: str, dtype: int, shape: Sequence[int]) -> None:
        """Makes `value` a graph output of that name."""
        for node in self._nodes:
            for names in (node.input, node.output):
                names[:] = [name if n == value.place else n for n in names]
        for names in self._tensor_roles.values():
            names[:] = [name if n == value.place else n for n in names]
        self._outputs.append(helper.make_tensor_value_info(name, dtype, list(shape)))

    # ---- names and roles

    @contextmanager
    def scope(self, name: str) -> Iterator[None]:
        """What is written inside is named `name/…`."""
        self._scopes.append(name)
        try:
            yield
        finally:
            self._scopes.pop()

    @contextmanager
    def role(self, role: str | None) -> Iterator[None]:
        """Gives the nodes written inside a role (export.onnx.roles): "int8", "float32" or, again, none.

        Of "int8" nodes only those count that int8 is for: products and convolutions with constant weights.
        """
        before, self._role = self._role, role
        try:
            yield
        finally:
            self._role = before

    def mark(self, value: Value, role: str) -> None:
        """Gives a tensor a role: "kept" or "interior"."""
        self._tensor_roles[role].append(value.place)

    def rename(self, value: Value, name: str) -> Value:
        """Names the last node and its one output, as `Value.named` says."""
        node = self._nodes[-1]
        if list(node.output) != [value.place]:
            raise ValueError(f"{value.place} is not what was written last: it cannot become {name}")
        node.name = node.output[0] = self._full(name)
        return Value(self, node.name)

    def _full(self, name: str) -> str:
        return name[1:] if name.startswith("/") else "/".join((*self._scopes, name))

    # ---- what it holds

    def constant(self, array: NDArray[Any] | np.floating[Any], name: str) -> Value:
        """A weight or table; a checkpoint's tensor keeps its own name instead of `name`."""
        place = self._checkpoint_names.get(id(array)) or self._full(name)
        known = self._constants.setdefault(place, np.asarray(array))
        if known is not array and not np.array_equal(known, array):
            raise ValueError(f"two different constants are named {place}")
        return Value(self, place)

    def integers(self, values: Sequence[int] | NDArray[np.int64], name: str) -> Value:
        """An int64 constant: shapes, axes, indices."""
        return self.constant(np.asarray(values, dtype=np.int64), name)

    def op(self, kind: str, *inputs: Value, name: str | None = None, **attributes: Any) -> Value:
        """One operator with one output, both of that name (default: the operator's, in lower case)."""
        return self.ops(kind, *inputs, names=[name or kind.lower()], **attributes)[0]

    def ops(self, kind: str, *inputs: Value, names: Sequence[str], **attributes: Any) -> list[Value]:
        """One operator with an output per name; with several it stands beside the first, as its kind."""
        places = [self._full(name) for name in names]
        beside = places[0].rpartition("/")[0]
        own = places[0] if len(places) == 1 else f"{beside}/{kind.lower()}".lstrip("/")
        self._nodes.append(helper.make_node(kind, [x.place for x in inputs], places, name=own, **attributes))
        weighted = kind in ("MatMul", "Conv") and any(x.place in self._constants for x in inputs[:2])
        self._node_roles.append(self._role if self._role != INT8 or weighted else None)
        return [Value(self, place) for place in places]

    def model(self, metadata: Mapping[str, str]) -> onnx.ModelProto:
        """The checked model with every tensor's shape recorded, and the roles in its metadata."""
        graph = helper.make_graph(
            self._nodes,
            self.name,
            self._inputs,
            self._outputs,
            # Not ascontiguousarray: it would make a scalar, which Clip's bounds have to be, a list of one.
            [numpy_helper.from_array(np.asarray(a, order="C"), n) for n, a in self._constants.items()],
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
        )
        model.producer_name = "jntrt"
        helper.set_model_props(model, {**self._roles().to_metadata(), **metadata})
        onnx.checker.check_model(model, full_check=False)
        return onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)

    def _roles(self) -> Roles:
        nodes = {
            role: tuple(n.name for n, r in zip(self._nodes, self._node_roles, strict=True) if r == role)
            for role in (INT8, FLOAT32)
        }
        tensors = {role: tuple(names) for role, names in self._tensor_roles.items()}
        return Roles(**nodes, **tensors, **{ALLOWED: self._allowed})
