"""The model `jntrt_tracker` as Triton's Python backend calls it: requests in, `Streams` answers.

Runs inside Triton's stub process, whose Python needs jntrt and an engine installed. The model's folder holds
the bundle and a `model.py` that imports `TritonPythonModel` from here. A client sends numbers alone: no path,
no name and no code.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from jntrt.runtime.bundle import Bundle
from jntrt.runtime.command.console import one_line
from jntrt.runtime.engines.options import EngineOptions
from jntrt.runtime.engines.pair import Pair
from jntrt.runtime.errors import UserError
from jntrt.runtime.serving import protocol
from jntrt.runtime.serving.dlpack import from_dlpack, to_dlpack
from jntrt.runtime.serving.networks import ServedNetwork
from jntrt.runtime.serving.streams import Limits, Request, Streams
from jntrt.runtime.tracker import Tracker

log = logging.getLogger(__name__)


class TritonPythonModel:
    """Triton's interface: `initialize` once, `execute` with the requests that have come, `finalize`."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Opens the bundle beside model.py in the engine that config.pbtxt names."""
        self._triton: Any = import_module("triton_python_backend_utils")
        config = json.loads(args["model_config"])
        told = {name: entry["string_value"] for name, entry in config["parameters"].items()}
        bundle = Bundle.open(Path(args["model_repository"], args["model_version"], protocol.BUNDLE))
        limits = Limits(
            pixels=int(told[protocol.MAX_PIXELS]),
            streams=int(told[protocol.MAX_STREAMS]),
            targets=int(told[protocol.MAX_TARGETS]),
            idle=float(told[protocol.IDLE]),
        )
        self._engine: Tracker | None = None
        if told[protocol.NETWORKS] == "served":
            template, track = (ServedNetwork(self._triton, name) for name in ("template", "track"))

            def new_tracker(color: str) -> Tracker:
                return Tracker(bundle, Pair(template, track), color=color)
        else:
            engine = Tracker.from_bundle(
                bundle,
                told[protocol.BACKEND],
                told[protocol.PRECISION],
                options=EngineOptions(threads=int(told[protocol.THREADS])),
            )
            new_tracker, self._engine = engine.another, engine
        self._streams = Streams(new_tracker, bundle.batch, limits)

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """An answer for each request, boxes or one line that says what was wrong."""
        return [self._response(request) for request in requests]

    def finalize(self) -> None:
        """Lets the streams and the engine go."""
        self._streams.close()
        if self._engine is not None:
            self._engine.close()

    def _response(self, request: Any) -> Any:
        triton = self._triton
        try:
            answer = self._streams.answer(self._read(request))
            outputs = {
                protocol.BOXES: answer.boxes,
                protocol.SCORES: answer.scores,
                protocol.LOST: answer.lost,
            }
            if not len(answer.boxes):
                outputs = {}
            return triton.InferenceResponse(
                [triton.Tensor.from_dlpack(name, to_dlpack(array)) for name, array in outputs.items()]
            )
        except UserError as error:
            return triton.InferenceResponse([], error=triton.TritonError(one_line(error)))
        except Exception:  # the others' streams go on
            log.exception("a request failed")
            text = "the server failed on this request; its log says why"
            return triton.InferenceResponse([], error=triton.TritonError(text))

    def _read(self, request: Any) -> Request:
        def tensor(name: str) -> Any:
            found = self._triton.get_input_tensor_by_name(request, name)
            return None if found is None else from_dlpack(found)

        def flag(name: str) -> bool:
            value = tensor(name)
            return value is not None and bool(np.any(value))

        return Request(
            stream=int(np.ravel(tensor(protocol.STREAM))[0]),
            start=flag(protocol.START),
            end=flag(protocol.END),
            frame=tensor(protocol.FRAME),
            image=tensor(protocol.IMAGE),
            bgr=flag(protocol.BGR),
            boxes=tensor(protocol.BOXES),
        )
