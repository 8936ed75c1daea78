"""Engines against the stored numbers of a bundle, and the example that needs no jntrt against the tracker."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden_bundles import export_golden, golden_loop

from jntrt.runtime import Tracker
from jntrt.runtime.bundle import KEPT, Bundle, read_samples
from jntrt.runtime.engines.graph.onnx_bytes import read_kept_names
from jntrt.runtime.engines.onnxruntime import OnnxRuntime
from jntrt.runtime.engines.options import EngineOptions
from jntrt.runtime.engines.pair import Pair
from jntrt.runtime.engines.parity import Difference, compare, compare_pair
from jntrt.runtime.engines.precision import find_precision
from jntrt.runtime.errors import UserError

EXAMPLE = Path(__file__).parents[3] / "examples" / "bare_onnxruntime.py"


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_cpu_engines_agree_with_the_stored_numbers(
    golden_loop_bundle: tuple[str, Bundle], backend: str
) -> None:
    _, bundle = golden_loop_bundle
    difference = compare(bundle, "fp32", backend, threads=2, kept_sets=True)
    assert difference.passed, str(difference)
    assert difference.kept_differs == 0
    assert compare(bundle, "fp32", backend, threads=2).kept_differs is None


def test_stored_kept_sets_are_the_reference(
    golden_loop_bundle: tuple[str, Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A golden bundle has none stored, as older bundles: there fp32 in ONNX Runtime is the reference."""
    _, bundle = golden_loop_bundle
    stored, taken = dict(read_samples(bundle)), []
    run = OnnxRuntime.run

    def followed(self: OnnxRuntime, feeds: dict[str, Any]) -> dict[str, Any]:
        outputs = run(self, feeds)
        taken.append({KEPT + name: value for name, value in outputs.items() if name.endswith("/ce/kept")})
        return outputs

    monkeypatch.setattr(OnnxRuntime, "run", followed)
    assert compare(bundle, "fp32", threads=2, kept_sets=True).kept_differs == 0
    runs, sets = len(taken), [row for row in taken if row][-len(stored["search"]) :]
    for name in sets[0]:
        stored[name] = np.concatenate([row[name] for row in sets])
    monkeypatch.setattr("jntrt.runtime.engines.parity.read_samples", lambda bundle: stored)
    taken.clear()
    assert compare(bundle, "fp32", threads=2, kept_sets=True).kept_differs == 0
    assert len(taken) < runs  # no second engine for the reference
    stored[name][0] += 1
    assert compare(bundle, "fp32", threads=2, kept_sets=True).kept_differs == 1


def test_kept_sets_are_judged_without_onnxruntime(
    golden_loop_bundle: tuple[str, Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine with a GPU engine alone: the stored sets are enough, and without them it says so."""
    _, bundle = golden_loop_bundle
    stored, wanted = dict(read_samples(bundle)), find_precision("fp32")
    model = bundle.graph("track", "fp32").read_bytes()
    layers, count = read_kept_names(model), len(stored["search"])
    sets = {name: np.arange(3 * count).reshape(count, 3) for name in layers}

    class Engine:
        """Gives the stored outputs, but for the first sample's box; its copy kept another token there."""

        name = "gpu"

        def __init__(self, *_: Any) -> None:
            self.calls = 0

        def run(self, feeds: dict[str, Any]) -> dict[str, Any]:
            if "search" not in feeds:
                return {}
            row, self.calls = self.calls, self.calls + 1
            off = np.float32(0.1 * (row == 0))
            kept = {name: values[row : row + 1] + (row == 0) for name, values in sets.items()}
            return {
                "box": stored["box"][row : row + 1] + off,
                "score": stored["score"][row : row + 1],
                **kept,
            }

        def close(self) -> None:
            pass

    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    engine: Any = Engine
    with pytest.raises(UserError, match=r"no kept sets in parity\.npz: export the checkpoint again"):
        compare_pair(bundle, wanted, engine, Pair(Engine(), Engine()), EngineOptions(), kept_sets=True)
    monkeypatch.setattr(
        "jntrt.runtime.engines.parity.read_samples",
        lambda _: stored | {KEPT + name: values for name, values in sets.items()},
    )
    difference = compare_pair(
        bundle, wanted, engine, Pair(Engine(), Engine()), EngineOptions(), kept_sets=True
    )
    assert difference.kept_differs == 1
    assert difference.passed


def test_a_network_that_is_another_fails(tmp_path: Path) -> None:
    bundle = export_golden("jn256", tmp_path / "jn256")
    stored = read_samples(bundle)
    stored["box"] = stored["box"] + np.float32(1e-3)
    np.savez(bundle.path / "parity.npz", **stored)
    with pytest.raises(UserError, match=r"parity\.npz"):
        compare(Bundle.open(bundle.path), "fp32")
    manifest = json.loads((bundle.path / "bundle.json").read_text())
    del manifest["parity"]
    (bundle.path / "bundle.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="has no parity"):
        compare(Bundle.open(bundle.path), "fp32")


@pytest.mark.parametrize(("wrong", "off", "passes"), [(1, 0.1, True), (1, np.nan, False), (None, 0.1, False)])
def test_the_shipped_engine_is_judged_and_not_its_copy(
    golden_loop_bundle: tuple[str, Bundle],
    monkeypatch: pytest.MonkeyPatch,
    wrong: int | None,
    off: float,
    passes: bool,
) -> None:
    _, bundle = golden_loop_bundle
    original = OnnxRuntime.open

    def opened(*arguments: Any) -> Pair:
        pair = original(*arguments)
        run, calls = pair.track.run, []

        def miscompiled(feeds: dict[str, Any]) -> dict[str, Any]:
            outputs = run(feeds)
            calls.append(None)
            moved = wrong is None or len(calls) <= wrong
            return outputs | {"box": outputs["box"] + np.float32(off)} if moved else outputs

        monkeypatch.setattr(pair.track, "run", miscompiled)
        return pair

    monkeypatch.setattr(OnnxRuntime, "open", opened)
    difference = compare(bundle, "fp32", "onnxruntime", threads=2, kept_sets=True)
    assert difference.passed == passes
    if np.isfinite(off):
        assert difference.kept_differs == (wrong or difference.samples)
        assert difference.box_elsewhere > 0.09 or difference.box > 0.09


def test_samples_that_are_no_archive(tmp_path: Path) -> None:
    folder = export_golden("jn256", tmp_path / "jn256").path
    manifest = json.loads((folder / "bundle.json").read_text())
    content = (folder / "parity.npz").read_bytes()[:200]  # begins as a zip does
    (folder / "parity.npz").write_bytes(content)
    manifest["parity"] |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (folder / "bundle.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=r"parity\.npz cannot be read"):
        read_samples(Bundle.open(folder))


def test_what_passes() -> None:
    assert Difference(1e-5, 1e-5, 1e-4, 8).passed
    assert not Difference(float("nan"), 1e-5, 1e-4, 8).passed
    assert not Difference(1e-5, 1e-3, 1e-4, 8).passed
    assert Difference(1e-5, 1e-5, 1e-4, 8, kept_differs=4, box_elsewhere=0.3).passed
    assert not Difference(1e-5, 1e-5, 1e-4, 8, kept_differs=5).passed


def test_the_bare_example_gives_the_trackers_boxes(
    golden_loop_bundle: tuple[str, Bundle], tmp_path: Path
) -> None:
    name, bundle = golden_loop_bundle
    loop = golden_loop(name)
    frames = np.stack([loop.frame(0), *(loop.frame(step.frame) for step in loop.steps)])
    np.save(tmp_path / "frames.npy", frames)
    box = ",".join(str(v) for v in loop.init_box)
    command = [sys.executable, EXAMPLE, bundle.path, tmp_path / "frames.npy", box]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    rows = np.array([[float(v) for v in line.split(",")] for line in output.splitlines()])
    tracker = Tracker.from_bundle(bundle, backend="onnxruntime")
    tracker.init(frames[0], loop.init_box)
    results = [tracker.update(frame) for frame in frames[1:]]
    np.testing.assert_allclose(rows[:, :4], [r.box for r in results], rtol=0, atol=1e-3)
    np.testing.assert_allclose(rows[:, 4], [r.score for r in results], rtol=0, atol=1e-5)


def test_the_bare_example_is_short_and_bare() -> None:
    lines = EXAMPLE.read_text().splitlines()
    assert len(lines) <= 60
    imports = {line.split()[1] for line in lines if line.startswith(("import ", "from "))}
    assert imports <= {"json", "os", "sys", "pathlib", "numpy", "onnxruntime"}
