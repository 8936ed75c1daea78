"""A fresh engine must compute what its graph says before anybody tracks with it.

ViT engines have been miscompiled with every check of the compiler passed, so the pair of a bundle's
engines is run on the bundle's parity samples once, in a process of its own (a bad plan can take its
process down), and the verdict is written into the engines' signed manifests.
"""

import json
import logging
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

from jntrt.runtime.bundle import Bundle
from jntrt.runtime.bundle.manifest import GRAPHS
from jntrt.runtime.cuda.driver import DeviceInfo
from jntrt.runtime.engines.options import EngineOptions
from jntrt.runtime.engines.precision import Precision, find_precision
from jntrt.runtime.engines.tensorrt.build import BuildOptions
from jntrt.runtime.engines.tensorrt.cache import Engine, EngineCache, EngineKey, compiled_key
from jntrt.runtime.engines.tensorrt.own import read_own_engines
from jntrt.runtime.errors import GateError, UserError

log = logging.getLogger(__name__)

# The folder that the user stands in, which is "" on the path, is no place to import from.
CHILD = (
    "import sys; sys.path[:] = filter(None, sys.path);"
    " from jntrt.runtime.engines.tensorrt.gate import main; sys.exit(main())"
)
TIMEOUT = 900  # seconds; RTX compiles its kernels in the first run


def ensure(
    bundle: Bundle,
    precision: Precision,
    flavour: str,
    device: DeviceInfo,
    options: EngineOptions,
) -> tuple[dict[str, Any], list[tuple[EngineKey, Engine]]]:
    """Build what the cache lacks of a bundle's two engines, and gate them if no verdict stands.

    Engines that do not pass are removed.

    Returns the verdict (`parity.Difference.to_dict`) and the engines. Raises GateError when they compute
    something else.
    """
    if options.own_engines is not None:
        return _ensure_own(bundle, precision, flavour, device, options)
    cache = EngineCache.open(options.engine_key)
    engines = obtain_engines(bundle, precision, flavour, device, options, cache)
    pair = [engine.sha256 for _, engine in engines]
    verdicts = [engine.manifest.get("parity", {}) for _, engine in engines]
    same = all(verdict.get("engines") == pair for verdict in verdicts)
    gpus = verdicts[0].get("gpus", []) if same else []  # a portable engine is judged on each model
    if device.name in gpus:
        verdict = dict(verdicts[0])
    else:
        try:
            verdict = _measure(bundle, precision, flavour, options)
        except GateError:
            _forget(cache, engines, device)
            raise
        verdict |= {"engines": pair, "gpus": [*gpus, device.name]}
        if not verdict["passed"]:
            _forget(cache, engines, device)
        else:
            for graph, (key, engine) in zip(GRAPHS, engines, strict=True):
                cache.record(key, engine, {"parity": verdict, "graph": f"{bundle.name} {graph}"})
    if not verdict["passed"]:
        raise GateError(
            f"the {flavour} engine of {bundle.name} in {precision} computes something else than its graph"
            f" ({verdict['text']}): take {_remedy(bundle, precision)}"
        )
    return verdict, engines


def _ensure_own(
    bundle: Bundle, precision: Precision, flavour: str, device: DeviceInfo, options: EngineOptions
) -> tuple[dict[str, Any], list[tuple[EngineKey, Engine]]]:
    """As `ensure`, of the user's engines: judged in every run, as no verdict on them is kept."""
    engines = own_engines(bundle, precision, flavour, device, options)
    verdict = _measure(bundle, precision, flavour, options, [engine.sha256 for _, engine in engines])
    if not verdict["passed"]:
        raise GateError(
            f"--engine computes something else than {bundle.name} in {precision} ({verdict['text']}):"
            " build both from its ONNX as docs/gpu.md says"
        )
    return verdict, engines


def own_engines(
    bundle: Bundle, precision: Precision, flavour: str, device: DeviceInfo, options: EngineOptions
) -> list[tuple[EngineKey, Engine]]:
    """The user's two engines, as `obtain_engines` gives ours."""
    from jntrt.runtime.engines.tensorrt.engine import engine_key

    entry = bundle.entry(precision.stored)
    return [
        (engine_key(entry[graph]["sha256"], str(precision), flavour, device, options), engine)
        for graph, engine in zip(GRAPHS, read_own_engines(options), strict=True)
    ]


def _forget(cache: EngineCache, engines: list[tuple[EngineKey, Engine]], device: DeviceInfo) -> None:
    """Nobody may use them: neither they nor the kernels that were compiled for them stay."""
    for key, _ in engines:
        cache.remove(key.digest)
        cache.remove(compiled_key(key, device.name).digest)


def obtain_engines(
    bundle: Bundle,
    precision: Precision,
    flavour: str,
    device: DeviceInfo,
    options: EngineOptions,
    cache: EngineCache,
) -> list[tuple[EngineKey, Engine]]:
    """A bundle's two engines, from the cache or built into it; each ONNX file is hashed once."""
    from jntrt.runtime.engines.tensorrt.engine import obtain_engine

    entry = bundle.entry(precision.stored)
    return [
        obtain_engine(
            bundle.graph(graph, precision.stored),
            entry[graph]["sha256"],
            str(precision),
            flavour,
            device,
            options,
            cache,
        )
        for graph in GRAPHS
    ]


def _remedy(bundle: Bundle, precision: Precision) -> str:
    """The bundle's other precisions, and the engine on the GPU that compiles none of them."""
    others = [name for name in bundle.precisions if name != precision.stored and not bundle.failed_gate(name)]
    choices = [f"--precision {name}" for name in others]
    if not precision.int8:
        choices.append("--backend onnxruntime-cuda")
    return " or ".join(choices) or "another backend"


def _measure(
    bundle: Bundle,
    precision: Precision,
    flavour: str,
    options: EngineOptions,
    own: list[str] | None = None,
) -> dict[str, Any]:
    """The child's verdict. Raises GateError when it gave none: that is not kept, but asked again.

    own: sha256 of the user's engines, which the child reads anew.
    """
    request = {
        "bundle": str(bundle.path),
        "verified": bundle.verified,
        "precision": precision.name,
        "flavour": flavour,
        "device": options.device,
        "build": options.build.key(),
        "engine_key": str(options.engine_key) if options.engine_key else None,
        "own_engines": [str(file) for file in options.own_engines or ()],
        "own": own,
    }
    command = [sys.executable, "-c", CHILD]
    log.info("checking the new engine against the bundle's samples")
    try:
        child = subprocess.run(
            command,
            input=json.dumps(request),
            capture_output=True,
            text=True,
            errors="replace",  # a crash may print anything
            timeout=TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise GateError(
            f"the {flavour} engine of {bundle.name} in {precision} is refused: its check took over"
            f" {TIMEOUT} s"
        ) from None
    lines = child.stdout.strip().splitlines()
    if child.returncode != 0 or not lines:
        detail = (child.stderr.strip().splitlines() or ["no message"])[-1][:200]
        raise GateError(
            f"the {flavour} engine of {bundle.name} in {precision} is refused: its check ended with code"
            f" {child.returncode} ({detail}): take {_remedy(bundle, precision)}"
        )
    verdict: dict[str, Any] = json.loads(lines[-1])
    return verdict


def check(
    bundle: Bundle,
    precision: Precision,
    flavour: str,
    options: EngineOptions,
    own: list[str] | None = None,
) -> dict[str, Any]:
    """What the child does: compare, and where that fails, look whether only the kept tokens differ.

    own: as in `_measure`.
    """
    from jntrt.runtime.engines import backend_class, parity
    from jntrt.runtime.engines.device import shared_device
    from jntrt.runtime.engines.tensorrt.engine import open_engines

    engine, device = backend_class(flavour), shared_device(options.device)
    with device.current():
        if own is None:
            cache = EngineCache.open(options.engine_key)
            engines = obtain_engines(bundle, precision, flavour, device.info, options, cache)
        else:
            engines = own_engines(bundle, precision, flavour, device.info, options)
            if [engine.sha256 for _, engine in engines] != own:
                raise UserError("the files of --engine changed meanwhile: start again")
    with closing(open_engines(engine, bundle, precision, options, engines)) as pair:  # not through its gate
        difference = parity.compare_pair(bundle, precision, engine, pair, options)
        if not difference.passed:
            # One swapped token moves a box without any miscompilation.
            difference = parity.compare_pair(bundle, precision, engine, pair, options, kept_sets=True)
    return {**difference.to_dict(), "text": str(difference)}


def main() -> int:
    """Read a request on stdin, print the verdict as one line of JSON."""
    request = json.load(sys.stdin)
    own = request["own_engines"]
    options = EngineOptions(
        device=request["device"],
        build=BuildOptions(**request["build"]),
        engine_key=Path(request["engine_key"]) if request["engine_key"] else None,
        own_engines=(Path(own[0]), Path(own[1])) if own else None,
        trust=bool(own),  # asked for by the parent, which read them under the user's own
    )
    try:
        bundle, precision = Bundle.open(Path(request["bundle"])), find_precision(request["precision"])
        bundle.assume(request["verified"])
        verdict = check(bundle, precision, request["flavour"], options, request["own"])
    except UserError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(json.dumps(verdict))
    return 0
