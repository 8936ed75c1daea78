"""The projection on GPUs that are not here: its model, its back-test, and what it prints."""

import json
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from jntrt.bench.cards import CARDS, find_card
from jntrt.bench.cli import app
from jntrt.bench.projection import fit
from jntrt.bench.projection.fit import back_test, fits, interval, pairs_residual, widening
from jntrt.bench.projection.graph import graph_kernels
from jntrt.bench.projection.kernels import Constants, Kernel, network_ms, work_seconds
from jntrt.bench.projection.networks import encoder, ostrack
from jntrt.bench.projection.project import Measured, project, read_measured, scale_measured
from jntrt.bench.projection.published import OSTRACK_2060, POINTS, ostrack_256_ce
from jntrt.bench.projection.report import print_report
from jntrt.bench.projection.scaling import scale
from jntrt.runtime.bundle import Bundle, open_bundle
from jntrt.runtime.command.app import run
from jntrt.runtime.errors import UserError

TURING = CARDS["rtx2080ti"]


@pytest.fixture(scope="module")
def nano() -> Bundle:
    return open_bundle("jn-nano")


def test_a_wave_that_is_not_full_takes_as_long_as_a_full_one() -> None:
    """68 tiles fill a 2080 Ti once; one tile more is a second wave."""

    def seconds(tiles: int) -> float:
        kernel = Kernel("product", 32, 64, 100, copies=tiles, weights=False)
        return work_seconds(kernel, TURING, 0.5, fp32_sums=False)

    assert seconds(1) == seconds(68)
    assert seconds(69) == seconds(136) == pytest.approx(2 * seconds(68))


def test_the_roofline_bounds_a_kernel() -> None:
    one_row = Kernel("product", 1, 768, 3072)
    assert work_seconds(one_row, TURING, 0.9, fp32_sums=False) >= one_row.moved / 524e9
    large = Kernel("product", 1 << 13, 1 << 13, 1 << 13)
    peak = 2 * large.macs / 107.6e12
    assert peak / 0.5 <= work_seconds(large, TURING, 0.5, fp32_sums=False) < 1.05 * peak / 0.5
    in_fp32 = work_seconds(large, TURING, 0.5, fp32_sums=True)
    assert in_fp32 == pytest.approx(2 * work_seconds(large, TURING, 0.5, fp32_sums=False))


def test_networks_have_the_papers_products() -> None:
    """Linear and convolution layers: 21.5 GMACs of OSTrack-256 with CE, 29.0 without."""
    for kept, papers in ({3: 180, 6: 126, 9: 89}, 21.5), ({}, 29.0):
        macs = sum(kernel.macs for kernel in ostrack(64, 256, kept) if kernel.kind == "product")
        assert macs / 1e9 == pytest.approx(papers, rel=0.02)
    linear = sum(kernel.macs for kernel in encoder(197) if kernel.kind == "product")
    assert linear == 12 * 197 * 12 * 768**2


def test_every_pair_of_published_points_is_tested_without_its_gpu() -> None:
    tested = back_test()
    pairs = {(t.point, t.origin) for t in tested if t.origin is not None}
    expected = {
        (point, origin)
        for point in POINTS
        for origin in POINTS
        if origin.card != point.card
        and (origin.network, origin.library, origin.int8) == (point.network, point.library, point.int8)
    }
    assert pairs == expected
    assert len(pairs) == 20
    for one in tested:
        where = one.origin.card if one.origin else "products"
        print(f"{one.point.network} {one.point.precision} {where} → {one.point.card}: {one.error:+.0%}")
        assert abs(one.error) < 0.45  # as docs/projection.md says
    assert pairs_residual() < 0.30
    assert pairs_residual(by_waves=True) < 0.30
    assert fits()["t4"] != fits()["a100"] != fits()[""]


def test_what_the_intervals_lack_is_said() -> None:
    """Ends that far out hold nine tenths of the points, and a little less far do not."""
    alone = [one for one in back_test() if one.interval is not None]

    def held(factor: float) -> int:
        return sum(t.interval.low / factor <= t.point.ms <= t.interval.high * factor for t in alone)

    assert held(1.0) == sum(one.inside for one in alone) == 7  # as docs/projection.md says
    assert held(widening() * 1.0001) >= 0.9 * len(alone) > held(widening() * 0.9999)
    assert widening() == pytest.approx(1.39, abs=0.02)


def test_a_fit_does_not_see_the_gpu_that_it_is_tested_on(monkeypatch: pytest.MonkeyPatch) -> None:
    before = fits()["t4"]
    points = tuple(replace(p, ms=3 * p.ms) if p.card == "t4" else p for p in POINTS)
    monkeypatch.setattr(fit, "POINTS", points)
    fits.cache_clear()
    try:
        assert fits()["t4"] == before
        assert fits()[""].efficiency != before.efficiency
    finally:
        fits.cache_clear()


def test_ostrack_on_a_2060_is_bracketed() -> None:
    """botaoye/OSTrack#29, the host's share subtracted; sums in fp16, which TensorRT 8.4 was free to take."""
    low, high = OSTRACK_2060.network_ms
    assert (low, high) == pytest.approx((1e3 / 284 - 0.7, 1e3 / 284 - 0.1))
    for name in OSTRACK_2060.cards:
        found = interval(ostrack_256_ce(), CARDS[name], fp32_sums=False)
        assert found.low <= low < high <= found.high
        assert found.high <= 2 * found.low


def test_wave_scaling() -> None:
    """What memory bounds goes by bandwidth, what does not by the cores, half a wave by the clock."""
    a100, t4 = CARDS["a100"], CARDS["t4"]
    options = {"launch_ms": 0.0, "fp32_sums": True}
    moves = Kernel("moves", 1 << 20)
    assert scale(1.0, moves, a100, t4, **options) == pytest.approx(0.8 * 1555 / 239)
    large = Kernel("product", 1 << 13, 1 << 13, 1 << 13)
    assert scale(1.0, large, a100, t4, **options) == pytest.approx(312 / 65, rel=0.05)
    small = Kernel("product", 128, 64, 1 << 13, weights=False)
    per_sm = (312 / 108) / (65 / 40)
    assert scale(1.0, small, a100, t4, **options) == pytest.approx(per_sm, rel=0.05)
    assert scale(1.0, small, a100, t4, launch_ms=1.0, fp32_sums=True) == 1.0


def test_a_bundle_s_kernels_are_its_graph_s_products(nano: Bundle) -> None:
    kernels = graph_kernels(nano, "fp32")
    recipe = nano.recipe
    attentions = [kernel for kernel in kernels if kernel.kind == "attention"]
    assert len(attentions) == recipe["depth"]
    assert {kernel.copies for kernel in attentions} == {recipe["heads"]}
    macs = sum(kernel.macs for kernel in kernels if kernel.kind == "product" and kernel.weights)
    assert macs == pytest.approx(nano.manifest["macs"]["fast"], rel=0.1)  # which counts the template's too
    assert not any(kernel.int8 for kernel in kernels)


def test_measured_layers_are_scaled(nano: Bundle, tmp_path: Path) -> None:
    kernels = [kernel for kernel in graph_kernels(nano, "fp32") if kernel.name]
    constants = fits()[""].constants("TensorRT")
    layers = [
        (f"fused {k.name} + Add", network_ms([k], CARDS["a30"], constants, fp32_sums=True)) for k in kernels
    ]
    measured = Measured("a30", "fp16", tuple(layers))
    scaled = scale_measured(kernels, measured, CARDS["a30"], fp32_sums=True)
    assert scaled.low < scaled.high
    file = tmp_path / "layers.json"
    file.write_text(json.dumps({"layers": [{"name": name, "ms": ms} for name, ms in layers]}))
    assert read_measured(file, "a30", "fp16") == measured
    found = project(nano, "rtx2080ti", measured)
    assert [p.origin for p in found] == [None, "A30", None, "A30"]
    with pytest.raises(UserError, match="no layer bears"):
        project(nano, "rtx2080ti", Measured("a30", "fp16", (("another", 1.0),)))
    file.write_text("[]")
    with pytest.raises(UserError, match="holds no layers"):
        read_measured(file, "a30", "fp16")


def test_more_work_takes_longer() -> None:
    constants = Constants(0.5, 5e-6)
    times = [network_ms(encoder(tokens), TURING, constants, fp32_sums=True) for tokens in (64, 197, 384, 577)]
    assert times == sorted(times)
    int8 = network_ms(encoder(577, int8=True), TURING, constants, fp32_sums=True)
    assert int8 < times[-1]


def test_the_report_keeps_its_kinds_apart(nano: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(app, ["project", "jn-nano", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["measured_here"] is None
    assert {found["kind"] for found in said["projected"]} == {"projected"}
    assert all(found["low_ms"] < found["ms"] < found["high_ms"] for found in said["projected"])
    assert {found["sums"] for found in said["projected"]} == {"fp16", "fp32"}
    out = StringIO()
    print_report(nano, project(nano, "rtx2080ti"), None, Console(file=out, width=80))
    text = out.getvalue()
    assert "…" not in text
    rows = [line for line in text.splitlines() if line.startswith(("fp16", "RTX 2060", "BERT", "ViT", "CN-"))]
    assert len(rows) == 2 + 4 + len(back_test())
    assert all("projected" in row for row in rows)


def test_mistakes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="no card 'rtx9'"):
        find_card("rtx9")
    assert run(app, ["project", "jn-nano", "--measured-on", "a30"]) == 2
    assert "give both" in capsys.readouterr().err
