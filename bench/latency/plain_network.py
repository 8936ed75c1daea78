"""The plain network as an engine: what a bundle's graphs are timed against.

`eager` is the plain form in PyTorch eager mode, `naive` a bare `torch.onnx.export` of it in ONNX Runtime:
template and search go through the network together in every frame. Both are built from the bundle's recipe,
with the weights of a checkpoint for accuracy, with random ones for latency: a bundle does not keep the
checkpoint, and the time does not depend on the values.
"""

import contextlib
import io
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from jntrt.export.checkpoint import read_checkpoint
from jntrt.export.families.ostrack.network import OSTrack, load_weights, normalise
from jntrt.export.families.ostrack.recipe import Recipe
from jntrt.runtime.bundle import Bundle
from jntrt.runtime.engines.pair import Pair
from jntrt.runtime.errors import UserError
from jntrt.runtime.tracker import Tracker
from torch import Tensor, nn


class PlainForm(nn.Module):
    """Template and search crop (float32 B×3×S×S, normalised) → box B×4 and score B, as a track graph's.

    `extra` is the target's box (networks with a target-indicating token), the template rows' weights
    (networks that rank by the box's tokens), or both in this order.
    """

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.recipe = recipe
        self.network = OSTrack(recipe)

    def forward(self, template: Tensor, search: Tensor, *extra: Tensor) -> tuple[Tensor, Tensor]:
        rest = list(extra)
        target = rest.pop(0) if self.recipe.target_hidden else None
        weights = rest.pop(0) if rest else None
        return self.network.decode(self.network(template, search, target, weights))


class Network(Protocol):
    """The plain form in some engine: `extra` as for `PlainForm`, all arrays as tensors on the host."""

    def describe(self) -> dict[str, Any]: ...
    def __call__(self, template: Tensor, search: Tensor, *extra: Tensor) -> tuple[Any, Any]: ...


class Eager:
    """PyTorch eager mode, inference mode on."""

    def __init__(self, model: PlainForm, batch: int, threads: int | None) -> None:
        del batch
        if threads is not None:
            torch.set_num_threads(threads)
        self._model = model

    def describe(self) -> dict[str, Any]:
        return {"backend": "eager", "version": torch.__version__, "threads": torch.get_num_threads()}

    def __call__(self, template: Tensor, search: Tensor, *extra: Tensor) -> tuple[Any, Any]:
        with torch.inference_mode():
            box, score = self._model(template, search, *extra)
        return box.numpy(), score.numpy()


class Naive:
    """`torch.onnx.export` with its defaults, in ONNX Runtime with the threads that were asked for."""

    def __init__(self, model: PlainForm, batch: int, threads: int | None) -> None:
        import onnxruntime as ort

        # PyTorch only normalises the crop here; its waiting threads would disturb ONNX Runtime's.
        torch.set_num_threads(1)
        options = ort.SessionOptions()
        options.log_severity_level = 3
        if threads is not None:
            options.intra_op_num_threads = threads
        self._threads = threads
        self._version = ort.__version__
        with tempfile.TemporaryDirectory(prefix="jntrt-naive-") as folder:
            graph = Path(folder) / "naive.onnx"
            _export(model, _example(model.recipe, batch), graph)
            self._session = ort.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        self._names = [value.name for value in self._session.get_inputs()]

    def describe(self) -> dict[str, Any]:
        return {"backend": "naive", "version": self._version, "threads": self._threads or "all cores"}

    def __call__(self, template: Tensor, search: Tensor, *extra: Tensor) -> tuple[Any, Any]:
        values = (value.numpy() for value in (template, search, *extra))
        box, score = self._session.run(None, dict(zip(self._names, values, strict=True)))
        return box, score


class TemplateMemory:
    """The template graph's place: it keeps the normalised template, the network comes in `SearchNetwork`."""

    name = "plain"

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        memory: dict[str, Any] = {"template": normalise(torch.from_numpy(feeds["template"]))}
        if "target_box" in feeds:
            memory["target_box"] = torch.from_numpy(feeds["target_box"])
        return memory

    def describe(self) -> dict[str, Any]:
        return {"backend": self.name}

    def close(self) -> None:
        """Holds nothing."""


class SearchNetwork:
    """The track graph's place: normalises the search crop and runs the whole plain form."""

    name = "plain"

    def __init__(self, network: Network) -> None:
        self._network = network

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        extra = [feeds["target_box"]] if "target_box" in feeds else []
        if "template_weights" in feeds:
            extra.append(torch.from_numpy(np.ascontiguousarray(feeds["template_weights"])))
        search = normalise(torch.from_numpy(feeds["search"]))
        box, score = self._network(feeds["template"], search, *extra)
        return {"box": box, "score": score}

    def describe(self) -> dict[str, Any]:
        return self._network.describe()

    def close(self) -> None:
        """Its network goes with it."""


PLAIN_ENGINES: dict[str, Callable[[PlainForm, int, int | None], Network]] = {"eager": Eager, "naive": Naive}


def plain_backends(
    bundle: Bundle, kind: str, threads: int | None, checkpoint: Path | None = None
) -> tuple[TemplateMemory, SearchNetwork]:
    """Both backends of a `Tracker` that runs the plain form; kind: eager or naive.

    checkpoint: where the weights come from (None: random); UserError where it does not fit the recipe.
    """
    recipe = Recipe.from_dict(bundle.recipe)
    model = PlainForm(recipe)
    if checkpoint is not None:
        load_weights(model.network, read_checkpoint(checkpoint).weights)
    return TemplateMemory(), SearchNetwork(PLAIN_ENGINES[kind](model.eval(), bundle.batch, threads))


def plain_tracker(bundle: Bundle, kind: str, threads: int | None, checkpoint: Path | None = None) -> Tracker:
    """A tracker that does everything as with the bundle, but for the network, which is the plain form."""
    template, track = plain_backends(bundle, kind, threads, checkpoint)
    return Tracker(bundle, Pair(template, track))


def _example(recipe: Recipe, batch: int) -> tuple[Tensor, ...]:
    template = torch.zeros(batch, 3, recipe.template_size, recipe.template_size)
    search = torch.zeros(batch, 3, recipe.search_size, recipe.search_size)
    inputs = [template, search]
    if recipe.target_hidden:
        inputs.append(torch.tensor([[0.0, 0.0, 0.5, 0.5]]).repeat(batch, 1))
    if recipe.template_tokens == "box" and recipe.keep_counts:
        inputs.append(torch.full((batch, recipe.template_count), 1 / recipe.template_count))
    return tuple(inputs)


def _export(model: PlainForm, example: tuple[Tensor, ...], path: Path) -> None:
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            torch.onnx.export(model, example, str(path), verbose=False)
    except (RuntimeError, torch.onnx.errors.OnnxExporterError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"torch.onnx.export refuses the plain form: {reason}") from None
