"""As much of Triton as the model and the client call, in this process and without sockets."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from jntrt.runtime.serving.triton_model import TritonPythonModel


class Tensor:
    """A tensor of the stub: made of a DLPack capsule, read by DLPack."""

    def __init__(self, name: str, array: np.ndarray) -> None:
        self._name, self._array = name, array

    @classmethod
    def from_dlpack(cls, name: str, capsule: Any) -> "Tensor":
        owner = SimpleNamespace(__dlpack__=lambda **_: capsule, __dlpack_device__=lambda: (1, 0))
        return cls(name, np.from_dlpack(owner))

    def __dlpack__(self, **_: Any) -> Any:
        return self._array.__dlpack__()

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)

    def name(self) -> str:
        return self._name

    def array(self) -> np.ndarray:
        return np.array(self._array)


class Stub:
    """The module `triton_python_backend_utils`; `networks`: what jntrt_template and jntrt_track compute."""

    Tensor = Tensor

    def __init__(self, networks: dict[str, Any] | None = None) -> None:
        networks = networks or {}

        class InferenceRequest:
            def __init__(self, model_name: str, inputs: list[Tensor], requested_output_names: list[str]):
                self._model, self._inputs = model_name, inputs

            def exec(self) -> Any:
                feeds = {tensor.name(): tensor.array() for tensor in self._inputs}
                if self._model not in networks:
                    error = SimpleNamespace(message=lambda: "model is not ready")
                    return SimpleNamespace(has_error=lambda: True, error=lambda: error)
                found = [Tensor(name, value) for name, value in networks[self._model](feeds).items()]
                return SimpleNamespace(has_error=lambda: False, output_tensors=lambda: found)

        self.InferenceRequest = InferenceRequest

    @staticmethod
    def TritonError(message: str) -> str:
        return message

    @staticmethod
    def InferenceResponse(tensors: list[Tensor], error: str | None = None) -> Any:
        return SimpleNamespace(tensors={t.name(): t.array() for t in tensors}, error=error)

    @staticmethod
    def get_input_tensor_by_name(request: dict[str, np.ndarray], name: str) -> Tensor | None:
        return Tensor(name, request[name]) if name in request else None


def load(repository: Path, stub: Stub, monkeypatch: Any) -> TritonPythonModel:
    """The model of a repository, as the server loads it."""
    monkeypatch.setattr("jntrt.runtime.serving.triton_model.import_module", lambda name: stub)
    folder = repository / "jntrt_tracker"
    lines = [line for line in (folder / "config.pbtxt").read_text().splitlines() if "string_value" in line]
    words = [line.split('"') for line in lines]
    parameters = {word[1]: {"string_value": word[3]} for word in words}
    model = TritonPythonModel()
    model.initialize(
        {
            "model_config": json.dumps({"parameters": parameters}),
            "model_repository": str(folder),
            "model_version": "1",
        }
    )
    return model


class ServerError(Exception):
    """tritonclient's InferenceServerException."""

    def __init__(self, message: str, status: str = "StatusCode.INTERNAL") -> None:
        super().__init__(message)
        self._message, self._status = message, status

    def message(self) -> str:
        return self._message

    def status(self) -> str:
        return self._status


class Wire:
    """The modules of tritonclient, wired to a model: what the server does before the model is asked, too."""

    def __init__(self, model: TritonPythonModel) -> None:
        self.model: TritonPythonModel | None = model
        self.known: set[int] = set()
        self.sent: list[dict[str, np.ndarray]] = []

    def module(self, name: str) -> Any:
        if name == "tritonclient.grpc":
            return SimpleNamespace(InferenceServerClient=lambda address: self, InferInput=_Input)
        if name == "tritonclient.utils":
            return SimpleNamespace(InferenceServerException=ServerError)
        assert name == "tritonclient.utils.shared_memory"
        return _Memory

    def restart(self, model: TritonPythonModel) -> None:
        self.model, self.known = model, set()

    def is_model_ready(self, name: str, client_timeout: float) -> bool:
        if self.model is None:
            raise ServerError("failed to connect", "StatusCode.UNAVAILABLE")
        return name == "jntrt_tracker"

    def infer(self, name: str, inputs: list[Any], **flags: Any) -> Any:
        if self.model is None:
            raise ServerError("failed to connect", "StatusCode.UNAVAILABLE")
        number = flags["sequence_id"]
        if flags["sequence_start"]:
            self.known.add(number)
        elif number not in self.known:
            raise ServerError(
                f"inference request for sequence {number} to model '{name}' must specify the START flag on "
                "the first request of the sequence"
            )
        if flags["sequence_end"]:
            self.known.discard(number)
        tensors = {tensor.name: tensor.value() for tensor in inputs}
        self.sent.append(tensors)
        controls = {
            "start": np.array([flags["sequence_start"]], np.int32),
            "end": np.array([flags["sequence_end"]], np.int32),
            "stream": np.array([number], np.uint64),
        }
        (response,) = self.model.execute([tensors | controls])
        if response.error:
            raise ServerError(response.error)
        return SimpleNamespace(as_numpy=response.tensors.get)

    def register_system_shared_memory(self, name: str, key: str, size: int) -> None:
        assert _Memory.regions[key].nbytes == size

    def unregister_system_shared_memory(self, name: str) -> None:
        assert f"/{name}" in _Memory.regions

    def close(self) -> None:
        pass


class _Input:
    def __init__(self, name: str, shape: list[int], kind: str) -> None:
        self.name, self._shape = name, shape

    def set_data_from_numpy(self, array: np.ndarray) -> None:
        self._array = np.array(array)

    def set_shared_memory(self, name: str, size: int) -> None:
        self._array = _Memory.regions[f"/{name}"][:size].reshape(self._shape)

    def value(self) -> np.ndarray:
        return self._array


class _Memory:
    regions: dict[str, np.ndarray] = {}  # noqa: RUF012

    @classmethod
    def create_shared_memory_region(cls, name: str, key: str, size: int) -> str:
        cls.regions[key] = np.empty(size, np.uint8)
        return key

    @classmethod
    def set_shared_memory_region(cls, handle: str, arrays: list[np.ndarray]) -> None:
        cls.regions[handle][:] = arrays[0].reshape(-1)

    @classmethod
    def destroy_shared_memory_region(cls, handle: str) -> None:
        del cls.regions[handle]
