"""`auto`: the precision that it takes, where, and why."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jntrt.bench.accuracy.contestants import bundle_contestant
from jntrt.bench.latency.timed_engines import plan_engines
from jntrt.runtime import Tracker
from jntrt.runtime.bundle import Bundle, copy_bundle, default_bundle
from jntrt.runtime.bundle.write import add_precision
from jntrt.runtime.cuda.driver import DeviceInfo
from jntrt.runtime.engines import auto, backend_class, parity
from jntrt.runtime.engines.auto import ON_GPU, open_pair, resolve
from jntrt.runtime.engines.device import tf32_obstacle
from jntrt.runtime.engines.options import EngineOptions
from jntrt.runtime.engines.precision import Precision, find_precision
from jntrt.runtime.engines.remembered import remember
from jntrt.runtime.errors import GateError, UserError

ONE = EngineOptions(threads=1)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def with_fp16(folder: Path, *more: str, passed: bool = True) -> Bundle:
    """A packaged bundle, whose fp16 (and what else is named) are its fp32 graphs here."""
    bundle = copy_bundle(default_bundle(), folder)
    graphs = {graph: {"file": bundle.graph(graph, "fp32").name} for graph in ("template", "track")}
    for precision in ("fp16", *more):
        bundle = add_precision(bundle, precision, {}, {**graphs, "gate": {"passed": passed}})
    return bundle


def put_gpu(monkeypatch: pytest.MonkeyPatch, *runs: str, backend: str = "onnxruntime-cuda") -> None:
    """A GPU whose `backend` runs the precisions `runs`, on this CPU in truth."""
    cpu = backend_class("onnxruntime")
    for name in ON_GPU:
        monkeypatch.setattr(
            backend_class(name),
            "obstacle",
            lambda precision, *_, here=name == backend: (
                None if here and str(precision) in runs else "not here"
            ),
        )
    monkeypatch.setattr(backend_class(backend), "open", lambda *given: cpu.open(*given))


def test_on_a_cpu_it_is_fp32_whatever_the_bundle_has(tmp_path: Path) -> None:
    bundle = with_fp16(tmp_path / "bundle")
    for name in ("auto", "onnxruntime", "openvino"):
        with Tracker.from_bundle(bundle, name, threads=1) as tracker:
            assert tracker.precision == "fp32 (auto: on a CPU; bf16 and int8 go by name)"
    with Tracker.from_bundle(bundle, precision="fp16", threads=1) as tracker:
        assert tracker.precision == "fp16"


@pytest.mark.parametrize(
    ("macs", "flags", "precision", "name"),
    [
        (20e9, {"avx2", "avx512f"}, "fp32", "openvino"),
        (20e9, {"avx2"}, "fp32", "onnxruntime"),
        (0.1e9, {"avx2", "avx512f"}, "fp32", "onnxruntime"),
        (20e9, {"avx2", "avx512f"}, "int8", "onnxruntime"),
    ],
)
def test_large_networks_run_in_openvino_where_the_cpu_has_avx512(
    monkeypatch: pytest.MonkeyPatch, macs: float, flags: set[str], precision: str, name: str
) -> None:
    monkeypatch.setattr(Bundle, "macs", macs)
    monkeypatch.setattr(auto, "features", lambda: frozenset(flags))
    bundle = default_bundle()
    choice = resolve(bundle, precision).backend
    assert choice.name == name
    assert (choice.reason == "a large network on a CPU with AVX-512") == (name == "openvino")
    assert resolve(bundle, precision, "onnxruntime").backend.name == "onnxruntime"


@pytest.mark.parametrize("backend", ["auto", "onnxruntime-cuda"])
def test_on_a_gpu_it_is_fp16_once_it_gave_the_stored_outputs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    put_gpu(monkeypatch, "fp16", "fp32")
    compared: list[str] = []
    compare = parity.compare_pair

    def watched(bundle: Bundle, precision: Precision, *rest: Any, **keywords: Any) -> parity.Difference:
        compared.append(str(precision))
        return compare(bundle, precision, *rest, **keywords)

    monkeypatch.setattr(parity, "compare_pair", watched)
    with Tracker.from_bundle(with_fp16(tmp_path / "bundle"), backend, threads=1) as tracker:
        assert tracker.choice.startswith("onnxruntime-cuda")
        assert tracker.precision == "fp16 (auto: on a GPU, where it equals fp32 on the bundle's samples)"
    assert compared == ["fp16"]


def test_fp16_that_computes_something_else_gives_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    put_gpu(monkeypatch, "fp16", "fp32")
    run = parity._run

    def off(*given: Any) -> dict[str, Any]:
        got = run(*given)
        return {**got, "box": got["box"] + np.float32(0.05)}

    monkeypatch.setattr(parity, "_run", off)
    pair, taken = open_pair(with_fp16(tmp_path / "bundle"), "auto", ONE)
    pair.close()
    assert taken.precision_text == "fp32 (auto: onnxruntime-cuda fails the gate in fp16)"
    assert "computes something else than nanotrack-v3 in fp16" in caplog.text


def test_fp16_gives_way_to_bfloat16_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the GPU has it; and where that computes something else too, it is fp32."""
    compare, off = parity.compare_pair, ["fp16"]

    def watched(bundle: Bundle, precision: Precision, *rest: Any, **keywords: Any) -> parity.Difference:
        difference = compare(bundle, precision, *rest, **keywords)
        return replace(difference, box=1.0) if str(precision) in off else difference

    monkeypatch.setattr(parity, "compare_pair", watched)
    put_gpu(monkeypatch, "fp16", "bf16-gpu", "fp32")
    bundle = with_fp16(tmp_path / "bundle", "bf16-gpu")

    def taken() -> str:
        pair, resolved = open_pair(bundle, "auto", ONE)
        pair.close()
        return resolved.precision_text

    fails = "onnxruntime-cuda fails the gate in"
    assert taken() == (
        f"bf16-gpu (auto: on a GPU, where it equals fp32 on the bundle's samples; {fails} fp16)"
    )
    off.append("bf16-gpu")
    assert taken() == f"fp32 (auto: {fails} fp16; {fails} bf16-gpu)"
    put_gpu(monkeypatch, "fp16", "fp32")  # before Ampere
    assert taken() == f"fp32 (auto: {fails} fp16; no engine on a GPU runs bf16-gpu here)"


def test_an_engine_that_refuses_both_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_gpu(monkeypatch, "fp16", "fp32")
    asked: list[str] = []

    def refuse(bundle: Bundle, precision: Precision, options: EngineOptions) -> None:
        asked.append(str(precision))
        raise GateError(f"{precision} is refused")

    monkeypatch.setattr(backend_class("onnxruntime-cuda"), "open", refuse)
    with pytest.raises(GateError, match="fp32 is refused"):
        open_pair(with_fp16(tmp_path / "bundle"), "auto", ONE)
    assert asked == ["fp16", "fp32"]


def test_why_a_gpu_gets_fp32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_gpu(monkeypatch, "fp16", "fp32")
    plain = copy_bundle(default_bundle(), tmp_path / "plain")
    plain.manifest["precisions"] = {"fp32": plain.manifest["precisions"]["fp32"]}
    refused = with_fp16(tmp_path / "refused", passed=False)
    blind = with_fp16(tmp_path / "blind")
    del blind.manifest["parity"]
    for bundle, why in (
        (plain, "the bundle has no fp16, calib-jn adds it"),
        (refused, "the bundle's fp16 failed its gate"),
        (blind, "the bundle has no samples to judge fp16 by"),
    ):
        taken = resolve(bundle, "auto")
        assert (taken.backend.name, taken.precision_text) == ("onnxruntime-cuda", f"fp32 (auto: {why})")
    put_gpu(monkeypatch, "fp32")
    taken = resolve(with_fp16(tmp_path / "good"), "auto")
    assert taken.precision_text == "fp32 (auto: no engine on a GPU runs fp16 here)"


def test_what_was_measured_in_fp16_on_a_cpu_is_not_taken_for_a_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = with_fp16(tmp_path / "bundle")
    remember(bundle, {"fp16": "openvino"})
    assert str(resolve(bundle, "auto").precision) == "fp32"
    put_gpu(monkeypatch, "fp16", backend="tensorrt-rtx")
    assert resolve(bundle, "auto").backend.name == "tensorrt-rtx"


def test_tf32_is_asked_for_by_name_and_is_a_gpu_s(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("onnxruntime", "openvino"):
        with pytest.raises(UserError, match="tf32 is a GPU's"):
            resolve(default_bundle(), "tf32", name)
    tf32 = find_precision("tf32")
    turing = DeviceInfo(0, "RTX 2080 Ti", "", (7, 5), 13000)
    assert "tf32 is from sm_80" in str(tf32_obstacle(tf32, turing))
    assert tf32_obstacle(find_precision("fp32"), turing) is None
    assert tf32_obstacle(tf32, replace(turing, compute_capability=(8, 6))) is None


def test_a_bench_of_auto_is_named_by_what_it_takes(tmp_path: Path) -> None:
    bundle = with_fp16(tmp_path / "bundle")
    assert bundle_contestant(bundle, "auto", "auto", 1).name == "nanotrack-v3-onnxruntime-fp32"
    engines = plan_engines(
        [bundle], backends=["auto"], precisions=["auto"], threads=[1], against=(), source="", box=(0, 0, 1, 1)
    )
    assert [engine.label for engine in engines] == ["nanotrack-v3 auto fp32"]
