"""Any engine against the numbers that travel with a bundle (parity.npz), anywhere.

The stored outputs are ONNX Runtime's in fp32 on drawn crops. An engine is compared in two steps: the sets
of tokens that candidate elimination kept, then box and score. Where a reduced precision kept other tokens,
two ranks stood closer than its rounding, and the sample says nothing about the rest of the arithmetic: its
difference is told apart and does not decide.
"""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jntrt.runtime.bundle import KEPT, Bundle, read_samples
from jntrt.runtime.engines import Engine, backend_class, choose_backend
from jntrt.runtime.engines.graph.onnx_bytes import read_kept_names, with_outputs
from jntrt.runtime.engines.options import EngineOptions
from jntrt.runtime.engines.pair import Network, Pair
from jntrt.runtime.engines.precision import Precision, find_precision
from jntrt.runtime.errors import UserError

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Difference:
    """The largest differences from the stored outputs, over samples that kept the same tokens.

    box, score: absolute; box in units of the search crop. samples: how many were compared. kept_differs: how
    many kept other tokens, None where the sets were not read. box_elsewhere: the box's difference in those.
    """

    box: float
    score: float
    limit: float
    samples: int
    kept_differs: int | None = None
    box_elsewhere: float = 0.0

    @property
    def passed(self) -> bool:
        """Within the limit, judged by samples with the same kept tokens; at least half must be such."""
        enough = self.kept_differs is None or 2 * self.kept_differs <= self.samples
        return enough and self.box <= self.limit and self.score <= self.limit  # a NaN fails

    def to_dict(self) -> dict[str, Any]:
        """For a report or an engine's manifest."""
        return {
            "box": self.box,
            "score": self.score,
            "limit": self.limit,
            "samples": self.samples,
            "kept differs": self.kept_differs,
            "passed": self.passed,
        }

    def __str__(self) -> str:
        text = f"box {self.box:.1e}, score {self.score:.1e}, allowed {self.limit:.0e}, {self.samples} samples"
        if self.kept_differs:
            text += f", {self.kept_differs} kept other tokens (box there {self.box_elsewhere:.1e})"
        return text


def compare(
    bundle: Bundle,
    precision: str,
    backend: str = "onnxruntime",
    *,
    threads: int | None = None,
    kept_sets: bool = False,
) -> Difference:
    """Run a bundle's precision in a backend on the stored crops, as `compare_pair` does."""
    wanted, options = find_precision(precision), EngineOptions(threads=threads)
    engine = backend_class(choose_backend(backend, wanted).name)
    with closing(engine.open(bundle, wanted, options)) as pair:
        return compare_pair(bundle, wanted, engine, pair, options, kept_sets=kept_sets)


def compare_pair(
    bundle: Bundle,
    precision: Precision,
    engine: type[Engine],
    pair: Pair,
    options: EngineOptions,
    *,
    kept_sets: bool = False,
) -> Difference:
    """Run a pair of `engine` on the stored crops.

    kept_sets: also compare which tokens each layer kept, in a copy of the graph that returns them, with the
    stored sets. The copy is another engine, so box and score stay the shipped graph's: where only that one is
    beyond the limit, it counts as having kept other tokens, which no more than half of the samples may.
    Raises UserError as the engine does, and for an older bundle without stored sets where there is no ONNX
    Runtime to tell them.
    """
    stored = read_samples(bundle)
    got = _run(bundle, pair.template, pair.track, stored)
    model = bundle.graph("track", precision.stored).read_bytes()
    layers = read_kept_names(model) if kept_sets else []
    if not layers:
        return _judge(got, stored, precision, None)
    with _copy(model, layers, engine, precision, options) as copied:
        copy = _run(bundle, pair.template, copied, stored)
    reference = _reference(bundle, layers, stored, options)
    same = _within(got, stored, precision) | ~_within(copy, stored, precision)
    same |= ~np.isfinite(sum(_errors(got, stored)))  # no swapped token gives a NaN
    for layer in layers:
        same &= (np.sort(copy[layer], axis=1) == np.sort(reference[layer], axis=1)).all(axis=1)
    return _judge(got, stored, precision, same)


def _reference(bundle: Bundle, layers: list[str], stored: Arrays, options: EngineOptions) -> Arrays:
    """What fp32 kept, by layer: stored, or ONNX Runtime's where the bundle is older."""
    if all(KEPT + layer in stored for layer in layers):
        return {layer: stored[KEPT + layer] for layer in layers}
    engine, fp32 = backend_class("onnxruntime"), find_precision("fp32")
    if engine.obstacle(fp32):
        raise UserError(
            f"bundle {bundle.name} is older than its engine's check and has no kept sets in parity.npz:"
            " export the checkpoint again, or pip install onnxruntime, which tells them"
        )
    with (
        closing(engine(bundle.graph("template", "fp32"), fp32, options)) as template,
        _copy(bundle.graph("track", "fp32").read_bytes(), layers, engine, fp32, options) as track,
    ):
        return _run(bundle, template, track, stored)


@contextmanager
def _copy(
    model: bytes, layers: list[str], engine: type[Engine], precision: Precision, options: EngineOptions
) -> Iterator[Network]:
    """The model, which also returns what its layers kept, open in `engine`."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "track.onnx"
        file.write_bytes(with_outputs(model, layers))
        with closing(engine(file, precision, options)) as opened:
            yield opened


def _run(bundle: Bundle, template: Network, track: Network, stored: Arrays) -> dict[str, NDArray[Any]]:
    collected: dict[str, list[NDArray[Any]]] = {}
    for crops in _batches(stored, bundle.batch):
        memory = template.run({name: crops[name] for name in _taken(bundle, "template", crops)})
        feeds = {name: crops[name] for name in _taken(bundle, "track", crops)}
        for name, value in track.run({**feeds, **memory}).items():
            collected.setdefault(name, []).append(np.asarray(value))
    return {name: np.concatenate(values) for name, values in collected.items()}


def _taken(bundle: Bundle, graph: str, crops: Arrays) -> list[str]:
    return [name for owner, name in bundle.tensors("inputs") if owner == graph and name in crops]


def _batches(stored: Arrays, batch: int) -> Iterator[dict[str, NDArray[Any]]]:
    for start in range(0, len(stored["search"]), batch):
        yield {name: np.ascontiguousarray(array[start : start + batch]) for name, array in stored.items()}


def _errors(got: Arrays, stored: Arrays) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Largest difference of each sample's box, and the difference of its score."""
    box = np.abs(got["box"].astype(np.float64) - stored["box"]).max(axis=1)
    return box, np.abs(got["score"].astype(np.float64) - stored["score"])


def _within(got: Arrays, stored: Arrays, precision: Precision) -> NDArray[np.bool_]:
    limit = precision.limit
    box, score = _errors(got, stored)
    within: NDArray[np.bool_] = (box <= limit) & (score <= limit)
    return within


def _judge(got: Arrays, stored: Arrays, precision: Precision, same: NDArray[np.bool_] | None) -> Difference:
    box, score = _errors(got, stored)
    judged = np.ones(len(box), dtype=bool) if same is None else same
    if not judged.any():
        judged = ~judged  # nothing to excuse anything with
    return Difference(
        box=float(box[judged].max()),
        score=float(score[judged].max()),
        limit=precision.limit,
        samples=len(box),
        kept_differs=None if same is None else int((~same).sum()),
        box_elsewhere=float(box[~judged].max(initial=0.0)),
    )
