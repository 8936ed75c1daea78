"""What a graph says of its own nodes and tensors, in the model's metadata, so that nobody guesses from names.

Every key is `jntrt.` and the field's name, its value a JSON list of names.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields

import onnx

from jntrt.runtime.errors import UserError

PREFIX = "jntrt."
INT8, FLOAT32, KEPT, INTERIOR, ALLOWED = "int8", "float32", "kept", "interior", "allowed"


@dataclass(frozen=True)
class Roles:
    """The metadata of one graph.

    `int8`: nodes (MatMul, Conv) that may compute in int8. `float32`: nodes that compute in float32 in every
    precision. `kept`: tensors that are sets of kept tokens, whose order says nothing. `interior`: further
    tensors that have to be there under this name, for tests and tools that promote them. `allowed`: operators
    that the graph rules forbid in other graphs.
    """

    int8: tuple[str, ...] = ()
    float32: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    interior: tuple[str, ...] = ()
    allowed: tuple[str, ...] = ()

    def to_metadata(self) -> dict[str, str]:
        """The entries of metadata_props. Empty lists are written too: a graph without the keys is older."""
        return {f"{PREFIX}{f.name}": json.dumps(list(getattr(self, f.name))) for f in fields(self)}


def read_roles(model: onnx.ModelProto) -> Roles | None:
    """The roles in a model's metadata, None where it has none. Raises UserError where they are no lists."""
    found: dict[str, tuple[str, ...]] = {}
    entries = {entry.key: entry.value for entry in model.metadata_props}
    for name in (f.name for f in fields(Roles)):
        if (text := entries.get(PREFIX + name)) is None:
            continue
        try:
            names = json.loads(text)
        except (ValueError, RecursionError):
            names = None
        if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
            raise UserError(f"{PREFIX}{name} in the graph's metadata is no list of names: export again")
        found[name] = tuple(names)
    return Roles(**found) if found else None
