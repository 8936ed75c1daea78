"""What a manifest says of a graph's inputs and outputs."""

from collections.abc import Iterable
from typing import Any


def tensor_rows(graph: str, tensors: Iterable[Any]) -> list[dict[str, Any]]:
    """The manifest's rows for the inputs or outputs (ValueInfoProto) of the graph called `graph`."""
    from onnx import helper

    return [
        {
            "graph": graph,
            "name": tensor.name,
            "dtype": str(helper.tensor_dtype_to_np_dtype(tensor.type.tensor_type.elem_type)),
            "shape": [dimension.dim_value for dimension in tensor.type.tensor_type.shape.dim],
        }
        for tensor in tensors
    ]
