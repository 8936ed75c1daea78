"""A bundle's two graphs as models of the same server, in place of an engine of the tracker's own."""

from collections.abc import Mapping
from typing import Any, Self

from jntrt.runtime.errors import TrackerError
from jntrt.runtime.serving.dlpack import from_dlpack, to_dlpack

PREFIX = "jntrt_"  # of the models' names: jntrt_template, jntrt_track


class ServedNetwork:
    """One graph behind Triton, called from the Python backend. Its outputs are NumPy arrays."""

    name = "triton"

    def __init__(self, triton: Any, graph: str) -> None:
        """triton: the module `triton_python_backend_utils`; graph: template or track."""
        self._triton, self._model = triton, f"{PREFIX}{graph}"

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """All outputs by name. Raises TrackerError with the server's words."""
        triton = self._triton
        request = triton.InferenceRequest(
            model_name=self._model,
            inputs=[triton.Tensor.from_dlpack(name, to_dlpack(value)) for name, value in feeds.items()],
            requested_output_names=[],  # all of them
        )
        response = request.exec()
        if response.has_error():
            raise TrackerError(f"{self._model}: {response.error().message()}")
        return {tensor.name(): from_dlpack(tensor).copy() for tensor in response.output_tensors()}

    def share(self) -> Self:
        """Itself: a call leaves nothing behind here."""
        return self

    def describe(self) -> dict[str, Any]:
        """Where it runs."""
        return {"backend": self.name, "model": self._model}

    def close(self) -> None:
        """The server's own: nothing to let go."""
