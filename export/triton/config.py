"""`config.pbtxt` of the three models: exact shapes, and how Triton keeps a stream's requests together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jntrt.runtime.serving import protocol

# Of ONNX's element types, by their numbers in TensorProto.
TRITON_TYPES = {1: "FP32", 2: "UINT8", 3: "INT8", 6: "INT32", 7: "INT64", 9: "BOOL", 10: "FP16", 11: "FP64"}


@dataclass(frozen=True)
class Tensor:
    """An input or output: its name, Triton's type (FP32 …) and shape, -1 for a free axis."""

    name: str
    type: str
    shape: tuple[int, ...]
    optional: bool = False


def network_config(
    name: str, platform: str, inputs: Sequence[Tensor], outputs: Sequence[Tensor], gpu: bool, instances: int
) -> str:
    """Of a stateless model: the template or the track graph in ONNX Runtime, or a TensorRT plan."""
    return "\n".join(
        [
            f'name: "{name}"',
            f'platform: "{platform}"',
            "max_batch_size: 0",
            *_tensors("input", inputs),
            *_tensors("output", outputs),
            _instances(gpu, instances),
            "",
        ]
    )


def tracker_config(
    parameters: Mapping[str, str], *, instances: int, max_streams: int, idle_seconds: float
) -> str:
    """Of the Python model that follows streams: a sequence of requests for each, oldest first."""
    inputs = [
        Tensor(protocol.FRAME, "UINT8", (-1, -1, 3), optional=True),
        Tensor(protocol.IMAGE, "UINT8", (-1,), optional=True),
        Tensor(protocol.BGR, "BOOL", (1,), optional=True),
        Tensor(protocol.BOXES, "FP64", (-1, 4), optional=True),
    ]
    outputs = [
        Tensor(protocol.BOXES, "FP64", (-1, 4)),
        Tensor(protocol.SCORES, "FP64", (-1,)),
        Tensor(protocol.LOST, "BOOL", (-1,)),
    ]
    controls = [
        _control(protocol.START, "CONTROL_SEQUENCE_START", "int32_false_true: [ 0, 1 ]"),
        _control(protocol.END, "CONTROL_SEQUENCE_END", "int32_false_true: [ 0, 1 ]"),
        _control(protocol.STREAM, "CONTROL_SEQUENCE_CORRID", "data_type: TYPE_UINT64"),
    ]
    return "\n".join(
        [
            f'name: "{protocol.MODEL}"',
            'backend: "python"',
            "max_batch_size: 0",
            *_tensors("input", inputs),
            *_tensors("output", outputs),
            "sequence_batching {",
            # Triton's own limit is a second, less than many a camera pauses.
            f"  max_sequence_idle_microseconds: {round(idle_seconds * 1e6)}",
            # One more than the model takes, so that the model can say that it is full; the rest would wait.
            f"  oldest {{ max_candidate_sequences: {max_streams + 1} }}",
            *controls,
            "}",
            _instances(False, instances),
            *(
                f'parameters {{ key: "{key}" value: {{ string_value: "{value}" }} }}'
                for key, value in parameters.items()
            ),
            "",
        ]
    )


def _tensors(kind: str, tensors: Sequence[Tensor]) -> list[str]:
    return [
        f'{kind} {{ name: "{tensor.name}" data_type: TYPE_{tensor.type} '
        f"dims: [ {', '.join(map(str, tensor.shape))} ]{' optional: true' if tensor.optional else ''} }}"
        for tensor in tensors
    ]


def _control(name: str, kind: str, form: str) -> str:
    return f'  control_input {{ name: "{name}" control {{ kind: {kind} {form} }} }}'


def _instances(gpu: bool, count: int) -> str:
    return f"instance_group {{ kind: {'KIND_GPU' if gpu else 'KIND_CPU'} count: {count} }}"
