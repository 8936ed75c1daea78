"""Which engine runs a bundle here and in which precision: what was asked for by name, or `auto`.

`auto` takes the fastest precision that is safe: float16 on a GPU, where the bundle's stored samples show that
its engine computes the same; where not, bfloat16 in the same way (from Ampere on); else float32. A CPU
computes float16 graphs in float32, and what bf16 and int8 cost in accuracy is for the user to weigh: they are
taken by name.
"""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from jntrt.runtime.bundle import Bundle
from jntrt.runtime.engines import BACKENDS, ON_CPU, Choice, backend_class, choose_backend
from jntrt.runtime.engines.cpu import features
from jntrt.runtime.engines.options import EngineOptions
from jntrt.runtime.engines.pair import Pair
from jntrt.runtime.engines.precision import AUTO, Precision, find_precision
from jntrt.runtime.engines.remembered import remembered_backend
from jntrt.runtime.engines.tensorrt.build import FLAVOURS
from jntrt.runtime.engines.tensorrt.own import own_backend
from jntrt.runtime.errors import GateError, UserError

log = logging.getLogger(__name__)

NARROW = ("fp16", "bf16-gpu")  # what is tried on a GPU before fp32, the fastest first
ON_GPU = tuple(name for name in BACKENDS if name not in ON_CPU)

# Multiply-accumulates a frame from which OpenVINO goes first in fp32 on a CPU with AVX-512: networks of 20
# and 39 GMACs were 1.15 to 1.2 times as fast there, two of 0.1 were not, and began later (docs/bench.md).
LARGE = 5e9


@dataclass(frozen=True)
class Resolved:
    """An engine and a precision, and why `auto` took that precision ("" where it was named)."""

    backend: Choice
    precision: Precision
    why: str = ""

    @property
    def precision_text(self) -> str:
        """The precision for a line of a report, with `auto`'s reason."""
        return f"{self.precision} ({self.why})" if self.why else str(self.precision)


def resolve(bundle: Bundle, precision: str, backend: str = "auto", device: int = 0) -> Resolved:
    """What a bundle is to run in, before anything is opened. Raises UserError as `choose_backend`.

    `device`: the number of the GPU.
    """
    return next(_plans(bundle, precision, backend, device))


def open_pair(
    bundle: Bundle, precision: str, options: EngineOptions, backend: str = "auto"
) -> tuple[Pair, Resolved]:
    """A bundle's two graphs, open, and in what.

    backend `auto`: what was measured to be the fastest and kept (`remembered`), else as `choose_backend`.
    precision `auto`: float16 gives way to bfloat16 and that to float32 where an engine fails the gate.

    Raises UserError as `choose_backend`, the bundle and the engine do, GateError where a compiled engine
    computes something else than its graphs.
    """
    if options.own_engines is not None:
        backend = own_backend(backend, precision)
    refusal: GateError | None = None
    for plan in _plans(bundle, precision, backend, options.device):
        stored = plan.precision.stored
        if bundle.failed_gate(stored):
            text = "bundle %s: %s failed its gate, its boxes are not those of fp32"
            log.warning(text, bundle.name, stored)
        try:
            pair = _open(bundle, plan, options)
        except GateError as error:
            log.warning("%s", error)
            refusal = error
            continue
        if options.own_engines is not None:
            plan = replace(plan, backend=replace(plan.backend, reason="your own engines"))
        return pair, plan
    assert refusal is not None
    raise refusal


def _open(bundle: Bundle, plan: Resolved, options: EngineOptions) -> Pair:
    name = plan.backend.name
    pair = backend_class(name).open(bundle, plan.precision, options)
    # TensorRT's engines pass a gate of theirs.
    if plan.why and plan.precision.name in NARROW and name not in FLAVOURS:
        try:
            _check(bundle, plan.precision, name, pair, options)
        except BaseException:
            pair.close()
            raise
    return pair


def _plans(bundle: Bundle, precision: str, backend: str, device: int) -> Iterator[Resolved]:
    """What to try, the best first; the next where a gate refuses it."""
    if precision != AUTO:
        named = find_precision(precision)
        yield Resolved(_backend(bundle, named, backend, BACKENDS, device), named)
        return
    whys: list[str] = []
    refused = False
    for narrow in map(find_precision, NARROW if backend not in ON_CPU else ()):
        if narrow.name not in bundle.precisions and whys:  # one of them is enough to be told of
            continue
        why = _obstacle_to(bundle, narrow.name)
        if not why:
            try:
                gpu = _backend(bundle, narrow, backend, ON_GPU, device)
            except UserError as error:
                log.info("auto looked for %s on a GPU: %s", narrow, error)
                why = f"no engine on a GPU runs {narrow} here"
            else:
                reason = "; ".join(["auto: on a GPU, where it equals fp32 on the bundle's samples", *whys])
                yield Resolved(gpu, narrow, reason)
                why, refused = f"{gpu.name} fails the gate in {narrow}", True
        whys.append(why)
    fp32 = find_precision("fp32")
    choice = _backend(bundle, fp32, backend, BACKENDS, device)
    if choice.name in ON_CPU and not refused:
        whys = ["on a CPU; bf16 and int8 go by name"]
    yield Resolved(choice, fp32, f"auto: {'; '.join(whys)}")


def _obstacle_to(bundle: Bundle, precision: str) -> str:
    if precision not in bundle.precisions:
        return f"the bundle has no {precision}, calib-jn adds it"
    if bundle.failed_gate(precision):
        return f"the bundle's {precision} failed its gate"
    return "" if "parity" in bundle.manifest else f"the bundle has no samples to judge {precision} by"


def _backend(bundle: Bundle, precision: Precision, backend: str, among: Iterable[str], device: int) -> Choice:
    """The backend of that name; `auto`: the one that was kept, else the first that runs (but `LARGE`)."""
    if backend == AUTO:
        name = remembered_backend(bundle, precision)
        if name is not None and name in among and not backend_class(name).obstacle(precision, device):
            choice = Choice(name, {}, "the fastest here by bench-jn latency --remember")
            log.info("auto took %s", choice)
            return choice
    choice = choose_backend(backend, precision, among, device)
    if backend == AUTO and choice.name == "onnxruntime" and precision == find_precision("fp32"):
        other = backend_class("openvino")
        if bundle.macs >= LARGE and "avx512f" in features() and not other.obstacle(precision, device):
            choice = Choice(other.name, choice.passed_over, "a large network on a CPU with AVX-512")
            log.info("auto took %s", choice)
    return choice


def _check(bundle: Bundle, precision: Precision, backend: str, pair: Pair, options: EngineOptions) -> None:
    """Raises GateError where the pair computes something else than the bundle's samples say."""
    from jntrt.runtime.engines.parity import compare_pair

    engine = backend_class(backend)
    difference = compare_pair(bundle, precision, engine, pair, options)
    if not difference.passed:  # one swapped token moves a box; TensorRT's own gate looks twice as well
        difference = compare_pair(bundle, precision, engine, pair, options, kept_sets=True)
    if not difference.passed:
        raise GateError(f"{backend} computes something else than {bundle.name} in {precision} ({difference})")
