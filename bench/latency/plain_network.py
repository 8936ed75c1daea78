"""The plain network as an engine: what a bundle's graphs are timed against.

`eager` is the plain form in PyTorch eager mode, `naive` a bare `torch.onnx.export` of it in ONNX Runtime:
template and search go through the network together in every frame. Both are built from the bundle's recipe,
with the weights of a checkpoint for accuracy, with random ones for latency: a bundle does not keep the
checkpoint, and the time does not depend on the values.
"""

import contextlib
import io
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn

from jntrt.export.checkpoint import read_checkpoint
from jntrt.export.families import family
from jntrt.export.families.plain import PlainForm, load_weights
from jntrt.runtime.bundle import Bundle
from jntrt.runtime.engines.onnxruntime_session import open_session
from jntrt.runtime.engines.pair import Pair
from jntrt.runtime.errors import UserError
from jntrt.runtime.tracker import Tracker

_BOX = (100.0, 100.0, 40.0, 40.0)


class Positional(nn.Module):
    """The plain form with its inputs in a row, as tracing wants them: → box B×4 and score B, a track graph's.

    names: of the inputs; `template` and `search` float32 B×3×S×S as `normalise` gives them come first.
    """

    def __init__(self, model: PlainForm, names: Sequence[str]) -> None:
        super().__init__()
        self.model, self.names = model, tuple(names)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        out = self.model.predict(dict(zip(self.names, inputs, strict=True)))
        return out["box"], out["score"]


class Network(Protocol):
    """The plain form in some engine: the inputs of `Positional`, all arrays as tensors on the host."""

    def describe(self) -> dict[str, Any]: ...
    def __call__(self, *inputs: Tensor) -> tuple[Any, Any]: ...


class Eager:
    """PyTorch eager mode, inference mode on."""

    def __init__(
        self, model: Positional, example: tuple[Tensor, ...], threads: int | None, spin: bool
    ) -> None:
        del example, spin
        if threads is not None:
            torch.set_num_threads(threads)
        self._model = model

    def describe(self) -> dict[str, Any]:
        return {"backend": "eager", "version": torch.__version__, "threads": torch.get_num_threads()}

    def __call__(self, *inputs: Tensor) -> tuple[Any, Any]:
        with torch.inference_mode():
            box, score = self._model(*inputs)
        return box.numpy(), score.numpy()


class Naive:
    """`torch.onnx.export` with its defaults, in ONNX Runtime with the threads that were asked for."""

    def __init__(
        self, model: Positional, example: tuple[Tensor, ...], threads: int | None, spin: bool
    ) -> None:
        import onnxruntime as ort

        # PyTorch only normalises the crop here; its waiting threads would disturb ONNX Runtime's.
        torch.set_num_threads(1)
        self._threads, self._idle = threads, "spin" if spin else "sleep"
        self._version = ort.__version__
        with tempfile.TemporaryDirectory(prefix="jntrt-naive-") as folder:
            graph = Path(folder) / "naive.onnx"
            _export(model, example, graph)
            self._session = open_session(graph, threads=threads, spin=spin)
        self._names = [value.name for value in self._session.get_inputs()]

    def describe(self) -> dict[str, Any]:
        return {
            "backend": "naive",
            "version": self._version,
            "threads": self._threads or "all cores",
            "idle threads": self._idle,
        }

    def __call__(self, *inputs: Tensor) -> tuple[Any, Any]:
        values = (value.numpy() for value in inputs)
        box, score = self._session.run(None, dict(zip(self._names, values, strict=True)))
        return box, score


class TemplateMemory:
    """The template graph's place: it keeps the normalised template, the network comes in `SearchNetwork`."""

    name = "plain"

    def __init__(self, model: PlainForm) -> None:
        self._model = model

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        memory = {name: torch.from_numpy(value) for name, value in feeds.items()}
        return memory | {"template": self._model.normalise(memory["template"])}

    def describe(self) -> dict[str, Any]:
        return {"backend": self.name}

    def share(self) -> Self:
        """Itself: a call leaves nothing behind."""
        return self

    def close(self) -> None:
        """Holds nothing."""


class SearchNetwork:
    """The track graph's place: normalises the search crop and runs the whole plain form."""

    name = "plain"

    def __init__(self, network: Network, model: PlainForm, names: Sequence[str]) -> None:
        self._network, self._model, self._names = network, model, names

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        inputs = {name: torch.as_tensor(feeds[name]) for name in self._names}
        inputs["search"] = self._model.normalise(inputs["search"])
        box, score = self._network(*inputs.values())
        return {"box": box, "score": score}

    def describe(self) -> dict[str, Any]:
        return self._network.describe()

    def share(self) -> Self:
        """Itself: a call leaves nothing behind."""
        return self

    def close(self) -> None:
        """Its network goes with it."""


PLAIN_ENGINES: dict[str, Callable[[Positional, tuple[Tensor, ...], int | None, bool], Network]] = {
    "eager": Eager,
    "naive": Naive,
}


def plain_form(bundle: Bundle) -> PlainForm:
    """The plain form of the bundle's recipe in eval mode, with random weights."""
    kind = family(bundle.family)
    torch.manual_seed(0)
    return kind.plain(kind.Recipe.from_dict(bundle.recipe)).eval()


def example_inputs(bundle: Bundle, model: PlainForm) -> dict[str, Tensor]:
    """Inputs of the plain form by name, in `Positional`'s order: black crops, a target in their middle."""
    kind = family(bundle.family)
    sizes = {"template": bundle.template.size, "search": bundle.search.size}
    inputs = {
        name: model.normalise(torch.zeros(bundle.batch, size, size, 3, dtype=torch.uint8))
        for name, size in sizes.items()
    }
    small = {name: torch.from_numpy(value) for name, value in kind.side_inputs(model.recipe, _BOX).items()}
    for name in kind.conventions(model.recipe).get("state_inputs", {}):
        small[name] = torch.full((2,), bundle.search.size / 4)
    return inputs | {name: value.repeat(bundle.batch, 1) for name, value in small.items()}


def plain_backends(
    bundle: Bundle, kind: str, threads: int | None, checkpoint: Path | None = None, *, spin: bool = False
) -> tuple[TemplateMemory, SearchNetwork]:
    """Both backends of a `Tracker` that runs the plain form; kind: eager or naive.

    spin: as in `EngineOptions`.

    checkpoint: where the weights come from (None: random); UserError where it does not fit the recipe.
    """
    model = plain_form(bundle)
    if checkpoint is not None:
        weights = family(bundle.family).own_names(read_checkpoint(checkpoint).weights)
        load_weights(model, weights)
    example = example_inputs(bundle, model)
    positional, inputs = Positional(model, list(example)).eval(), tuple(example.values())
    network = PLAIN_ENGINES[kind](positional, inputs, threads, spin)
    return TemplateMemory(model), SearchNetwork(network, model, list(example))


def plain_tracker(
    bundle: Bundle, kind: str, threads: int | None, checkpoint: Path | None = None, *, spin: bool = False
) -> Tracker:
    """A tracker that does everything as with the bundle, but for the network, which is the plain form."""
    template, track = plain_backends(bundle, kind, threads, checkpoint, spin=spin)
    return Tracker(bundle, Pair(template, track))


def _export(model: Positional, example: tuple[Tensor, ...], path: Path) -> None:
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            torch.onnx.export(model, example, str(path), verbose=False)
    except (RuntimeError, torch.onnx.errors.OnnxExporterError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"torch.onnx.export refuses the plain form: {reason}") from None
