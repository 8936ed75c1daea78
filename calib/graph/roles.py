"""What a graph's exporter says of its nodes: the roles in the model's metadata.

| key | JSON list of | meaning |
|---|---|---|
| `jntrt.int8` | node names | Linears and convolutions that may be int8 |
| `jntrt.float32` | node names | nodes that compute in float32 in every precision |
| `jntrt.kept` | tensor names | sets of tokens that were kept, which the gate compares |

Nothing here knows a tracker: what the roles do not say, no name says.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import onnx
from jntrt.runtime.errors import UserError

_KEYS = {"int8": "jntrt.int8", "float32": "jntrt.float32", "kept": "jntrt.kept"}


@dataclass(frozen=True)
class Roles:
    """int8, float32: names of nodes; kept: names of tensors, in the graph's order."""

    int8: frozenset[str]
    float32: frozenset[str]
    kept: tuple[str, ...]


def read_roles(model: onnx.ModelProto) -> Roles:
    """The roles of a graph. Raises UserError where it has none, or where they are no lists of names."""
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    lists = {role: _names(metadata.get(key), key, model) for role, key in _KEYS.items()}
    return Roles(frozenset(lists["int8"]), frozenset(lists["float32"]), tuple(lists["kept"]))


def replace_int8(model: onnx.ModelProto, replaced: Mapping[str, Iterable[str]]) -> None:
    """Gives the int8 role of each of these nodes to the nodes that took its place."""
    for entry in model.metadata_props:
        if entry.key == _KEYS["int8"]:
            names = [new for name in json.loads(entry.value) for new in replaced.get(name, [name])]
            entry.value = json.dumps(names)


def _names(text: str | None, key: str, model: onnx.ModelProto) -> list[str]:
    graph = model.graph.name or "unnamed"
    if text is None:
        raise UserError(
            f"the {graph} graph does not say which nodes may be int8 and which stay float32 (no {key} in its "
            "metadata): export the checkpoint again"
        )
    try:
        names = json.loads(text)
    except ValueError:
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"the {graph} graph's {key} is no list of names: export the checkpoint again")
    return names
