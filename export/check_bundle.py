"""Whether a bundle is whole: its files, the rules of its graphs, its stored outputs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from jntrt.runtime.bundle import PARITY, Bundle, open_bundle
from jntrt.runtime.engines.graph.graph_check import check_graph_file
from jntrt.runtime.engines.parity import Difference, compare
from jntrt.runtime.errors import GateError, UserError


def check_bundle(
    path: str | Path, progress: Callable[[str], None] = lambda step: None
) -> list[tuple[str, str, str]]:
    """Verifies hashes, graph rules and stored outputs; (precision, what, result) for each thing checked.

    Raises `UserError` for a bundle that is not whole or breaks a graph rule, `GateError` when a precision in
    ONNX Runtime differs from the stored outputs by more than `runtime.parity` allows it.
    """
    bundle = open_bundle(path)
    bundle.parity()
    progress("hashing the files")
    files = bundle.verify()
    checks = [("all", "size and sha256", f"{len(files)} files")]

    for precision in bundle.precisions:
        for graph in ("template", "track"):
            progress(f"graph rules, {precision} {graph}")
            _check_rules(bundle.graph(graph, precision))
            checks.append((precision, f"rules of the {graph} graph", "kept"))
    for precision in bundle.precisions:
        progress(f"stored outputs, {precision}")
        difference = _stored_difference(bundle, precision)
        if not difference.passed:
            raise GateError(f"{path}: {precision} differs from {PARITY}: {difference}")
        checks.append((precision, "stored outputs", str(difference)))
    return checks


def _stored_difference(bundle: Bundle, precision: str) -> Difference:
    try:
        difference = compare(bundle, precision)
        # Another machine's rounding may decide a tie otherwise; which tokens were kept tells that apart.
        return difference if difference.passed else compare(bundle, precision, kept_sets=True)
    except (UserError, KeyError, ValueError, RuntimeError) as error:
        # Arrays that the graphs do not take, or that cannot be unpacked.
        told = " ".join(str(error).split()).partition(": try export-jn check")[0][:200]
        raise UserError(f"{bundle.path}: {PARITY} does not fit its graphs ({told}); export again") from None


def _check_rules(file: Path) -> None:
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    from jntrt.export.rules import check_graph

    check_graph_file(file)  # names that are text, before they are compared and printed
    try:
        check_graph(onnx.load_model(file, load_external_data=False))
    except UserError as error:
        raise UserError(f"{file}: {error}") from None
    except (DecodeError, KeyError, IndexError, ValueError) as error:
        told = " ".join(str(error).split())[:160]
        raise UserError(f"{file}: no sound ONNX graph ({told})") from None
