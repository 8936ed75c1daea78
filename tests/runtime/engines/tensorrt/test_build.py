"""Plans through TensorRT-RTX, which builds without a GPU, and the names that all TensorRT flavours share."""

import signal
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from jntrt.runtime.engines.tensorrt import build as tensorrt_build
from jntrt.runtime.engines.tensorrt.build import BuildOptions, build_plan, load_flavour, logger
from jntrt.runtime.errors import UserError

ROOT = Path(__file__).parents[4]
NAMES = ROOT / "tests" / "data" / "tensorrt"


@pytest.fixture(scope="module")
def rtx() -> ModuleType:
    return pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")


@pytest.mark.parametrize("target", ["SM75", "SM86", "SM89", "SM120"])
def test_rtx_builds_for_each_architecture(
    rtx: ModuleType, small_graph: Callable[..., bytes], target: str
) -> None:
    plan = build_plan(small_graph(), "tensorrt-rtx", BuildOptions(), targets=(target,))
    assert len(plan) > 50_000
    assert plan != build_plan(small_graph(1), "tensorrt-rtx", BuildOptions(), targets=(target,))


def test_options_are_taken(rtx: ModuleType, small_graph: Callable[..., bytes], tmp_path: Path) -> None:
    options = BuildOptions(64, 1, max_aux_streams=2, timing_cache=tmp_path / "timing")
    assert build_plan(small_graph(), "tensorrt-rtx", options, targets=("SM89",))
    assert options.key() == {
        "workspace_mib": 64,
        "optimization_level": 1,
        "max_aux_streams": 2,
        "portable": False,
    }


def test_tf32_is_off_unless_asked_for(
    rtx: ModuleType, small_graph: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    cleared: list[object] = []
    clear = rtx.IBuilderConfig.clear_flag

    def watched(config: object, flag: object) -> None:
        cleared.append(flag)
        clear(config, flag)

    monkeypatch.setattr(rtx.IBuilderConfig, "clear_flag", watched)
    options = BuildOptions(optimization_level=0)
    for tf32, seen in ((True, 0), (False, 1)):
        assert build_plan(small_graph(), "tensorrt-rtx", options, targets=("SM89",), tf32=tf32)
        assert cleared.count(rtx.BuilderFlag.TF32) == seen


@pytest.mark.parametrize("bad", [{"workspace_mib": 0}, {"optimization_level": 6}, {"optimization_level": -1}])
def test_options_out_of_range(bad: dict[str, int]) -> None:
    with pytest.raises(UserError, match=r"give (whole MiB|0 to 5)"):
        BuildOptions(**bad)


def test_progress_is_told_and_can_cancel(rtx: ModuleType, small_graph: Callable[..., bytes]) -> None:
    steps: list[tuple[str, int, int]] = []

    def watch(phase: str, step: int, count: int) -> bool:
        steps.append((phase, step, count))
        return True

    assert build_plan(small_graph(), "tensorrt-rtx", BuildOptions(), targets=("SM89",), progress=watch)
    assert steps
    assert all(0 < step <= count for _, step, count in steps)
    with pytest.raises(UserError, match="tensorrt-rtx cannot build the engine: "):
        build_plan(
            small_graph(), "tensorrt-rtx", BuildOptions(), targets=("SM89",), progress=lambda *step: False
        )


@pytest.mark.parametrize("place", ["progress", "log"])
def test_ctrl_c_ends_a_build(
    rtx: ModuleType, small_graph: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """It comes amid a callback, since Python runs nowhere else; TensorRT swallows what callbacks raise."""
    # A background run may have been started with SIGINT ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    steps = []

    def progress(*step: object) -> bool:
        steps.append(step)
        if place == "progress":
            signal.raise_signal(signal.SIGINT)
        return True

    if place == "log":
        monkeypatch.setattr(tensorrt_build.log, "log", lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        with pytest.raises(KeyboardInterrupt):
            build_plan(small_graph(), "tensorrt-rtx", BuildOptions(), targets=("SM89",), progress=progress)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert steps


def test_a_timing_cache_that_cannot_be_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The engine took minutes: it is not lost with it."""
    tensorrt_build._write_timing_cache(tmp_path / "timing", b"measured")
    assert (tmp_path / "timing").read_bytes() == b"measured"
    assert caplog.text == ""
    for path in (tmp_path / "nowhere" / "timing", tmp_path / "timing" / "file"):
        tensorrt_build._write_timing_cache(path, b"measured")
        assert f"the timing cache is not kept: {path}: cannot be written" in caplog.text
    assert [path.name for path in tmp_path.iterdir()] == ["timing"]


def test_a_library_that_does_not_start(
    rtx: ModuleType, small_graph: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a driver that fits, TensorRT's factory gives a null pointer, which pybind reports so."""

    def refuse(_: object) -> None:
        raise TypeError("pybind11::init(): factory function returned nullptr")

    monkeypatch.setattr(rtx, "Builder", refuse)
    with pytest.raises(UserError, match="tensorrt-rtx does not start: no reason given"):
        build_plan(small_graph(), "tensorrt-rtx", BuildOptions(), targets=("SM89",))


def test_refusals_are_one_line(rtx: ModuleType, small_graph: Callable[..., bytes]) -> None:
    for model, targets, words in [
        (b"not a model", ("SM89",), "cannot read the graph"),
        (small_graph()[:-4000], ("SM89",), "cannot read the graph"),
        (small_graph(), ("SM90",), "TensorRT-RTX has no SM90"),
        # Turing has no fp32 matrix product in RTX.
        (small_graph(dtype=np.float32), ("SM75",), "cannot build the engine: .*FP32"),
    ]:
        with pytest.raises(UserError, match=words) as caught:
            build_plan(model, "tensorrt-rtx", BuildOptions(), targets=targets)
        assert "\n" not in str(caught.value)


def test_the_listing_shows_what_was_fused(rtx: ModuleType, small_graph: Callable[..., bytes]) -> None:
    sink = logger(load_flavour("tensorrt-rtx"))
    sink.listings.clear()
    build_plan(small_graph(), "tensorrt-rtx", BuildOptions(), targets=("SM89",), detailed=True)
    assert "LayerType: " in sink.listings[-1]


def test_a_missing_flavour_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(tensorrt_build.FLAVOURS, "tensorrt", "tensorrt_that_is_nowhere")
    with pytest.raises(UserError, match=r"tensorrt is not installed: pip install 'jntrt\[trt\]'"):
        load_flavour("tensorrt")


def test_an_old_tensorrt_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    old = ModuleType("tensorrt")
    old.__version__ = "10.2.0.19"  # type: ignore[attr-defined]
    monkeypatch.setitem(__import__("sys").modules, "tensorrt", old)
    with pytest.raises(UserError, match=r"TensorRT 10\.2\.0\.19 is too old: 10\.3"):
        load_flavour("tensorrt")
