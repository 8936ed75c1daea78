"""Whether a bundle is whole: its files, the rules of its graphs, its stored outputs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from jntrt.runtime.backends import backend_class
from jntrt.runtime.bundle import PARITY, Bundle
from jntrt.runtime.errors import GateError, UserError


def check_bundle(
    path: Path, progress: Callable[[str], None] = lambda step: None
) -> list[tuple[str, str, str]]:
    """Verifies hashes, graph rules and stored outputs; (precision, what, result) for each thing checked.

    Raises `UserError` for a bundle that is not whole or breaks a graph rule, `GateError` when fp32 in ONNX
    Runtime differs from the stored outputs by more than the parity check allows. The other precisions have
    gates of their own; their difference is only told.
    """
    bundle = Bundle.open(path)
    bundle.parity()
    progress("hashing the files")
    files = bundle.verify()
    checks = [("all", "size and sha256", f"{len(files)} files")]

    from jntrt.export.check import TOLERANCE

    for precision in bundle.precisions:
        for graph in ("template", "track"):
            progress(f"graph rules, {precision} {graph}")
            _check_rules(bundle.graph(graph, precision))
            checks.append((precision, f"rules of the {graph} graph", "kept"))
    for precision in bundle.precisions:
        progress(f"stored outputs, {precision}")
        box, score = stored_difference(bundle, precision)
        told = f"box {box:.1e}, score {score:.1e}"
        if precision == "fp32" and not max(box, score) <= TOLERANCE:
            raise GateError(f"{path}: fp32 differs from {PARITY} ({told}, allowed {TOLERANCE:.0e})")
        checks.append((precision, "stored outputs", told))
    return checks


def stored_difference(bundle: Bundle, precision: str) -> tuple[float, float]:
    """Largest differences of box and score from parity.npz, in ONNX Runtime."""
    template, track = (backend_class("onnxruntime").open(precision, None) for _ in range(2))
    template.load(bundle.graph("template", precision))
    track.load(bundle.graph("track", precision))
    try:
        with np.load(bundle.parity(), allow_pickle=False) as stored:
            arrays = dict(stored)
        box, score = [], []
        for start in range(0, len(arrays["search"]), bundle.batch):
            rows = {name: array[start : start + bundle.batch] for name, array in arrays.items()}
            memory = template.run({k: rows[k] for g, k in bundle.tensors("inputs") if g == "template"})
            own = {k: rows[k] for g, k in bundle.tensors("inputs") if g == "track" and k in rows}
            got = track.run({**own, **memory})
            box.append(np.abs(got["box"] - rows["box"]).max())
            score.append(np.abs(got["score"] - rows["score"]).max())
    except (KeyError, ValueError, OSError, RuntimeError, EOFError) as error:
        told = " ".join(str(error).split())[:160]
        raise UserError(f"{bundle.path}: {PARITY} does not fit its graphs ({told}); export again") from None
    return float(np.max(box)), float(np.max(score))


def _check_rules(file: Path) -> None:
    import onnx
    from google.protobuf.message import DecodeError
    from jntrt.export.check import check_graph

    try:
        check_graph(onnx.load_model(file, load_external_data=False))
    except UserError as error:
        raise UserError(f"{file}: {error}") from None
    except (DecodeError, KeyError, IndexError, ValueError) as error:
        told = " ".join(str(error).split())[:160]
        raise UserError(f"{file}: no sound ONNX graph ({told})") from None
