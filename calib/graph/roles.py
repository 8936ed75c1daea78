"""The roles of a graph's nodes as calibration needs them: without them there is nothing to go by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import onnx
from onnx import helper

from jntrt.export.onnx.roles import Roles, read_roles
from jntrt.runtime.errors import UserError


def roles_of(model: onnx.ModelProto) -> Roles:
    """What the graph's exporter says of its nodes. Raises UserError where it says nothing."""
    roles = read_roles(model)
    if roles is None:
        raise UserError(
            f"the {model.graph.name or 'unnamed'} graph does not say which nodes may be int8 and which stay "
            "float32 (no jntrt.int8 in its metadata): export the checkpoint again"
        )
    return roles


def replace_int8(model: onnx.ModelProto, replaced: Mapping[str, Sequence[str]]) -> None:
    """Gives the int8 role of each of these nodes to the nodes that took its place, in the model itself."""
    roles = roles_of(model)
    names = tuple(new for name in roles.int8 for new in replaced.get(name, [name]))
    entries = {entry.key: entry.value for entry in model.metadata_props}
    helper.set_model_props(model, {**entries, **replace(roles, int8=names).to_metadata()})
