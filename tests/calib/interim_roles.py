"""INTERIM: roles for the tiny tracker's graphs until the exporter writes them; goes with the merge."""

import json
import re

import onnx
from jntrt.calib.graph.view import GraphView

_Q = re.compile(r"blocks\.\d+/(?!ce/).*|head/(?:\w+/)?conv[1-4](?:/taps)?(?:/\w+)?")
_D = re.compile(r"head/(expected|reach|corners|argmax\w*)|box|score")


def with_roles(model):
    if any(e.key == "jntrt.int8" for e in model.metadata_props):
        return model
    view = GraphView(model)
    int8 = [
        n.name
        for n in view.nodes
        if n.op_type in ("MatMul", "Conv")
        and n.input[1] in view.constants
        and not _D.fullmatch(n.name)
        and _Q.fullmatch(n.name.removesuffix("/matmul"))
    ]
    ends = [v for v in view.outputs if not v.startswith("memory")]
    for n in view.nodes:
        if n.op_type == "ArgMax" or (n.op_type == "TopK" and "/ce/" in n.name):
            ends.append(n.input[0])
    found = set()

    def product(node):
        if node.op_type == "Add" and node.input[1] in view.constants and node.input[0] in view.producer:
            node = view.producer[node.input[0]]
        return node.op_type in ("MatMul", "Conv") and not (
            _D.fullmatch(node.name) or node.name.endswith("/ce/weighted")
        )

    while ends:
        name = ends.pop()
        node = view.producer.get(name)
        if name in found or node is None or not view.is_float(name) or product(node):
            continue
        found.add(name)
        ends += [s for s in node.input if s]
    f32 = [n.name for n in view.nodes if found & set(n.output)]
    kept = [o for n in view.nodes for o in n.output if re.fullmatch(r"blocks\.(\d+)/ce/kept", o)]
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for k, v in (("int8", int8), ("float32", f32), ("kept", kept)):
        copy.metadata_props.add(key=f"jntrt.{k}", value=json.dumps(v))
    return copy
