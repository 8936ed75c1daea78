"""`export-jn triton`: a bundle as a folder that tritonserver serves as it is.

jntrt_template/config.pbtxt, 1/model.onnx    the template graph, stateless, exact shapes
jntrt_track/config.pbtxt, 1/model.onnx       the track graph
jntrt_tracker/config.pbtxt, 1/model.py       streams of frames in, boxes out (Python backend)
                           1/bundle/         what the tracker opens its own engine from
"""

import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

import onnx

from jntrt.export.triton.config import TRITON_TYPES, Tensor, network_config, tracker_config
from jntrt.export.triton.serving import Serving
from jntrt.runtime.bundle import Bundle, copy_bundle
from jntrt.runtime.bundle.manifest import GRAPHS
from jntrt.runtime.engines import ON_CPU, choose_backend
from jntrt.runtime.engines.precision import find_precision
from jntrt.runtime.errors import UserError
from jntrt.runtime.serving import protocol
from jntrt.runtime.serving.networks import PREFIX

MODEL_PY = '''"""Triton loads this file; the server's Python needs jntrt and an engine."""

from jntrt.runtime.serving.triton_model import TritonPythonModel

__all__ = ["TritonPythonModel"]
'''


def write_repository(bundle: Bundle, repository: Path, serving: Serving) -> list[str]:
    """Write the models; their names. UserError where the folder exists or a plan is missing.

    The folder takes its name when it is whole.
    """
    if repository.exists():
        raise UserError(f"{repository}: exists already; name a new folder")
    precision = find_precision(serving.precision)
    bundle.entry(precision.stored)
    backend = serving.backend
    if backend == "auto":
        backend = choose_backend("auto", precision).name
    repository.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{repository.name}.", dir=repository.parent) as folder:
        made = Path(folder) / "repository"
        if not serving.only_tracker:
            for graph in GRAPHS:
                _write_network(made, bundle, graph, precision.stored, serving)
        _write_tracker(made, bundle, backend, serving)
        made.rename(repository)
    return sorted(path.name for path in repository.iterdir())


def _write_network(made: Path, bundle: Bundle, graph: str, stored: str, serving: Serving) -> None:
    name, file = f"{PREFIX}{graph}", bundle.graph(graph, stored)
    version = made / name / "1"
    version.mkdir(parents=True)
    platform, gpu = "onnxruntime_onnx", serving.backend not in (*ON_CPU, "auto")
    if serving.plans is not None:
        plan = serving.plans / f"{graph}.plan"
        if not plan.is_file():
            raise UserError(f"{plan}: no such plan; build it with trtexec --onnx={file.name} on the server")
        shutil.copyfile(plan, version / "model.plan")
        platform, gpu = "tensorrt_plan", True
    else:
        shutil.copyfile(file, version / "model.onnx")
    model = onnx.load(file)
    inputs, outputs = _tensors(model.graph.input), _tensors(model.graph.output)
    config = network_config(name, platform, inputs, outputs, gpu, serving.instances)
    (made / name / "config.pbtxt").write_text(config, encoding="utf-8")


def _write_tracker(made: Path, bundle: Bundle, backend: str, serving: Serving) -> None:
    version = made / protocol.MODEL / "1"
    version.mkdir(parents=True)
    copy_bundle(bundle, version / protocol.BUNDLE)
    (version / "model.py").write_text(MODEL_PY, encoding="utf-8")
    parameters = {
        protocol.BACKEND: backend,
        protocol.PRECISION: serving.precision,
        protocol.THREADS: str(serving.threads),
        protocol.NETWORKS: serving.networks,
        protocol.MAX_PIXELS: str(serving.max_pixels),
        protocol.MAX_STREAMS: str(serving.streams),
        protocol.MAX_TARGETS: str(serving.targets),
        protocol.IDLE: f"{serving.idle:g}",
    }
    config = tracker_config(
        parameters, instances=serving.instances, max_streams=serving.streams, idle_seconds=serving.idle
    )
    (made / protocol.MODEL / "config.pbtxt").write_text(config, encoding="utf-8")


def _tensors(values: Iterable[onnx.ValueInfoProto]) -> list[Tensor]:
    return [
        Tensor(
            value.name,
            TRITON_TYPES[value.type.tensor_type.elem_type],
            tuple(axis.dim_value for axis in value.type.tensor_type.shape.dim),
        )
        for value in values
    ]
