"""calib-jn from end to end on a tiny bundle: what it writes, refuses and survives."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import onnx
import pytest

from jntrt.bench.accuracy.contestants import bundle_contestant
from jntrt.bench.latency.timed_engines import plan_engines
from jntrt.bench.sequences.clips import load_clips
from jntrt.calib.calibrate import Calibration
from jntrt.calib.cli import app
from jntrt.calib.crops import CropSet, Sample, Target, Wanted, collect_crops
from jntrt.calib.options import Options
from jntrt.export.report import print_bundle
from jntrt.runtime import Tracker
from jntrt.runtime.bundle import Bundle, open_bundle, write_bundle
from jntrt.runtime.command.app import run
from jntrt.runtime.errors import GateError

from .tiny_tracker import random_weights, tiny_recipe, write_tiny

SMALL = ("--crops", "20", "--gate-crops", "8", "--gate-frames", "8", "--threads", "1")
LOOSE = ("--min-iou", "0", "--max-ao", "1")


def calib(*words) -> int:
    return run(app, [str(word) for word in words])


def content(folder) -> dict[str, bytes]:
    """Graphs and manifest: what makes the bundle. The reports also tell of what was refused."""
    reports = ("calibration.json", "calibration.html")
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.name not in reports}


@pytest.mark.parametrize("precision", ["fp16", "bf16-gpu", "int8", "int8-fp16"])
def test_a_precision_joins_the_bundle(bundle, sequences, precision, capsys):
    words = (bundle.path, "--data", sequences, "--precision", precision, *SMALL, *LOOSE, "--json")
    assert calib(*words) == 0
    printed = json.loads(capsys.readouterr().out)
    changed = Bundle.open(bundle.path)
    changed.verify()
    assert changed.precisions == ("fp32", precision)
    gate = changed.entry(precision)["gate"]
    assert gate == printed["gate"]
    assert gate["passed"] is True
    assert gate["crops"]["crops"] == 8
    assert list(gate["crops"]["kept"]) == ["blocks.1/ce/kept", "blocks.2/ce/kept"]
    assert gate["sequences"]["sequences"] == 1
    record = json.loads((changed.path / "calibration.json").read_text())
    entry = record["precisions"][precision]
    assert entry["judged_on"] == ["C"]
    assert entry["calibrated_on"] == ["A", "B"]
    assert "blocks.1/norm2" in entry["observed"]
    assert len(entry["histograms"]) == 10
    html = (changed.path / "calibration.html").read_text()
    assert "passed its gate" in html
    assert "<script" not in html
    assert "http" not in html.replace("http-equiv", "")
    track = onnx.load(changed.graph("track", precision))
    assert track.opset_import[0].version == (22 if precision == "bf16-gpu" else 20)
    if precision == "int8":
        assert gate["int8_share"] > 0.6
        with Tracker.from_bundle(changed, "onnxruntime", "int8", threads=1) as tracker:
            sequence = load_clips(sequences)[0]
            frames = sequence.frames()
            tracker.init(next(frames), sequence.boxes[0])
            assert np.isfinite(tracker.update(next(frames)).box).all()


def test_the_gate_refuses_with_exit_3_and_leaves_the_bundle_alone(bundle, sequences, capsys, caplog):
    before = content(bundle.path)
    words = (bundle.path, "--data", sequences, "--precision", "fp16", *SMALL, "--min-iou", "1")
    assert calib(*words) == 3
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "fp16 is not the same tracker: median IoU" in error
    assert "worst layers: " in error
    assert content(bundle.path) == before
    # What was refused is where the error says, and is not taken for a precision of the bundle.
    page = (bundle.path / "calibration.html").read_text()
    assert f"figures and layers: {bundle.path / 'calibration.html'}" in error
    assert "fp16 (refused)" in page
    record = json.loads((bundle.path / "calibration.json").read_text())
    assert list(record["refused"]) == ["fp16"]
    assert record["refused"]["fp16"]["gate"]["passed"] is False
    assert record["precisions"] == {}
    assert calib(*words, "--force") == 0
    assert json.loads((bundle.path / "calibration.json").read_text())["refused"] == {}
    assert "FAILED its gate" in capsys.readouterr().out
    changed = Bundle.open(bundle.path)
    assert changed.entry("fp16")["gate"]["passed"] is False
    assert "failed its gate" in (changed.path / "calibration.html").read_text()
    # Every later report carries it.
    with caplog.at_level("WARNING"):
        Tracker.from_bundle(changed, "onnxruntime", "fp16", threads=1).close()
    assert "failed its gate" in caplog.text
    assert (
        bundle_contestant(changed, "onnxruntime", "fp16", 1).name == "tiny-onnxruntime-fp16-failed-its-gate"
    )
    options = {"backends": ["onnxruntime"], "precisions": ["fp16"], "threads": [1], "against": []}
    (engine,) = plan_engines([changed], **options, source="clip.mp4", box=(1, 1, 9, 9))
    assert engine.label == "tiny onnxruntime fp16 (failed its gate)"
    print_bundle(changed)
    assert "failed its gate" in " ".join(capsys.readouterr().out.split())


def test_ranges_of_constant_colour_crops_are_refused(tmp_path, sequences):
    recipe = tiny_recipe()
    weights = random_weights(recipe)
    # Like trained ones, patch filters that see contrast and not brightness; two of them strong.
    filters = weights["backbone.patch_embed.proj.weight"]
    filters -= filters.mean(axis=(1, 2, 3), keepdims=True)
    filters[:2] *= 5
    bundle = write_tiny(tmp_path / "bundle", recipe, weights)
    data = load_clips(sequences)
    judged = collect_crops(bundle, data, Wanted(12), seed=1, threads=1)
    grey = {"search": np.full_like(judged.samples[0].inputs["search"], 114)}
    templates = [
        Target(
            {"template": np.full_like(t.template["template"], 114), "target_box": np.zeros(4, np.float32)}, {}
        )
        for t in judged.templates
    ]
    constant = CropSet(templates, [Sample(s.sequence, s.frame, s.template, grey) for s in judged.samples])
    before = content(bundle.path)
    options = Options("int8", gate_frames=8, threads=1, min_iou=0.95, max_ao=1)
    assert Calibration(bundle, options).run_on(judged, judged, data[:1]).verdict.passed
    with pytest.raises(GateError, match="worst layers: "):
        Calibration(bundle, options).run_on(constant, judged, data[:1])
    assert content(bundle.path) == before


def test_edited_ranges_are_refused(bundle, sequences, tmp_path, capsys):
    words = (bundle.path, "--data", sequences, "--precision", "int8", *SMALL)
    assert calib(*words, *LOOSE) == 0
    record = json.loads((bundle.path / "calibration.json").read_text())
    given = tmp_path / "given.json"
    shutil.copy(bundle.path / "calibration.json", given)
    before = content(bundle.path)
    capsys.readouterr()
    assert calib(*words, *LOOSE, "--ranges", given) == 0  # its own ranges give the same graph
    assert content(bundle.path)["track.int8.onnx"] == before["track.int8.onnx"]
    before = content(bundle.path)
    ranges = record["precisions"]["int8"]["ranges"]
    for name in ranges:
        ranges[name] *= 0.002 if "blocks.2" in name else 1
    given.write_text(json.dumps(record))
    capsys.readouterr()
    assert calib(*words, "--min-iou", "0.9", "--max-ao", "1", "--ranges", given) == 3
    assert "blocks.2/" in capsys.readouterr().err
    assert content(bundle.path) == before
    for wrong, text in (('{"precisions": {}}', "no int8 ranges"), ("[", "not readable JSON")):
        given.write_text(wrong)
        assert calib(*words, "--ranges", given) == 2
        assert text in capsys.readouterr().err


def test_a_norm_scaled_to_overflow_is_caught_with_its_name(tmp_path, sequences, capsys):
    recipe = tiny_recipe()
    weights = random_weights(recipe)
    weights["backbone.blocks.2.norm2.weight"] *= 40000
    weights["backbone.blocks.2.mlp.fc1.weight"] /= 40000  # the same tracker in float32
    bundle = write_tiny(tmp_path / "large", recipe, weights)
    before = content(bundle.path)
    assert calib(bundle.path, "--data", sequences, "--precision", "fp16", *SMALL, *LOOSE) in (2, 3)
    assert "blocks.2/" in capsys.readouterr().err
    assert content(bundle.path) == before


def test_a_refusal_is_one_where_its_figures_cannot_be_written(bundle, sequences, capsys):
    (bundle.path / "calibration.json").write_text("[")
    words = (bundle.path, "--data", sequences, "--precision", "fp16", *SMALL, "--min-iou", "1")
    assert calib(*words) == 3
    error = capsys.readouterr().err
    assert "fp16 is not the same tracker" in error
    assert "not kept: " in error


def test_graphs_without_roles_are_refused(bundle, sequences, capsys):
    track = onnx.load(bundle.graph("track", "fp32"))
    del track.metadata_props[:]
    manifest = json.loads((bundle.path / "bundle.json").read_text())
    template = (bundle.path / "template.onnx").read_bytes()
    graphs = {"template.onnx": template, "track.onnx": track.SerializeToString()}
    write_bundle(bundle.path, manifest, graphs)
    assert calib(bundle.path, "--data", sequences, "--precision", "fp16", *SMALL) == 2
    error = capsys.readouterr().err
    assert "the track graph does not say which nodes may be int8" in error
    assert "export the checkpoint again" in error
    assert error.count("\n") == 1


def test_too_little_int8_is_a_refusal(bundle, sequences, capsys):
    layers = [f"blocks.{n}/mlp/{fc}" for n in range(4) for fc in ("fc1", "fc2")]
    keep = ("--keep", ",".join([*layers, "head/conv1/taps"]))
    words = (bundle.path, "--data", sequences, "--precision", "int8", *SMALL, *LOOSE)
    assert calib(*words, *keep) == 3
    assert "under 60%" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--precision", "int4"), "--precision int4: choose one of fp16, bf16-gpu, int8, int8-fp16"),
        (("--precision", "int8", "--method", "best"), "--method best"),
        (("--precision", "int8", "--weight-bits", "6"), "--weight-bits 6"),
        (("--precision", "int8", "--keep", "blocks.9/mlp/fc1", *SMALL), "no such layer"),
        (("--precision", "int8", "--percentile", "20"), "--percentile 20"),
        (("--precision", "fp16", "--crops", "0"), "--crops 0"),
        (("--precision", "fp16", "--seed=-1"), "--seed -1: give a number from zero"),
        (("--precision", "fp16", "--keep", "head"), "--keep and --ranges are for int8 alone"),
    ],
)
def test_mistakes_are_one_line(bundle, sequences, words, text, capsys):
    assert calib(bundle.path, "--data", sequences, *words) == 2
    error = capsys.readouterr().err
    assert text in error
    assert error.count("\n") == 1


def test_only_one_sequence_needs_gate_data(bundle, sequences, capsys):
    one = sequences / "A"
    words = ("--precision", "fp16", "--crops", "10", "--gate-crops", "5", "--threads", "1", *LOOSE)
    assert calib(bundle.path, "--data", one, *words) == 2
    assert "--gate-data" in capsys.readouterr().err
    assert calib(bundle.path, "--data", one, "--gate-data", sequences / "B", *words) == 0


@pytest.mark.parametrize("moment", ["begin", "graphs", "manifest"])
def test_a_killed_calibration_leaves_a_valid_bundle(bundle, sequences, tmp_path, moment):
    """SIGKILL while crops are collected, after a graph was written, and before the manifest is replaced."""
    script = tmp_path / "killed.py"
    script.write_text(
        "import os, sys, time\n"
        "from jntrt.runtime.bundle import write as bundle\n"
        "import jntrt.calib.crops as crops\n"
        "from jntrt.calib.cli import app\n"
        "from jntrt.runtime.command.app import run\n"
        "moment, words = sys.argv[1], sys.argv[2:]\n"
        "def wait():\n"
        "    print('now', flush=True)\n"
        "    time.sleep(60)\n"
        "write, manifest, follow = bundle._write, bundle._write_manifest, crops._follow\n"
        "def slow_write(file, content):\n"
        "    write(file, content)\n"
        "    if moment == 'graphs' and file.suffix == '.onnx': wait()\n"
        "def slow_manifest(*words):\n"
        "    if moment == 'manifest': wait()\n"
        "    manifest(*words)\n"
        "def slow_follow(*words):\n"
        "    crops = follow(*words)\n"
        "    if moment == 'begin': wait()\n"
        "    return crops\n"
        "bundle._write, bundle._write_manifest, crops._follow = slow_write, slow_manifest, slow_follow\n"
        "sys.exit(run(app, words))\n"
    )
    words = [str(bundle.path), "--data", str(sequences), "--precision", "int8", *SMALL, *LOOSE]
    process = subprocess.Popen([sys.executable, script, moment, *words], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "now\n"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    time.sleep(0.05)
    left = Bundle.open(bundle.path)
    left.verify()
    assert left.precisions == ("fp32",)
    assert calib(*words) == 0
    Bundle.open(bundle.path).verify()


def test_a_packaged_bundle_is_calibrated_in_a_copy(sequences, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ("jn-nano", "--data", sequences, "--precision", "fp16", *SMALL, *LOOSE)
    assert calib(*words) == 2
    assert "jn-nano is packaged with jntrt" in (said := capsys.readouterr().err)
    assert "-o COPY" in said
    assert len(said.splitlines()) == 1
    mistake = ("--precision", "int8", "--keep", "nothing", *SMALL)
    assert calib("jn-nano", "--data", sequences, *mistake, "-o", tmp_path / "copy") == 2
    assert not (tmp_path / "copy").exists()  # nor is it in the way of the next try
    capsys.readouterr()
    assert calib(*words, "-o", tmp_path / "copy") == 0
    assert Bundle.open(tmp_path / "copy").precisions == ("fp32", "fp16")
    assert open_bundle("jn-nano").precisions == ("fp32",)
