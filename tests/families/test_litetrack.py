"""LiteTrack from its checkpoint through the commands to boxes, in both engines on the CPU."""

import json

import numpy as np
import pytest

from jntrt.bench.latency.plain_network import plain_backends
from jntrt.export.checkpoint import read_checkpoint
from jntrt.export.cli import app
from jntrt.export.families import family
from jntrt.export.families.plain import load_weights
from jntrt.runtime import Tracker
from jntrt.runtime.bundle import Bundle
from jntrt.runtime.command.app import run
from jntrt.train.run.measure import PlainTracker

from ..runtime.golden_bundles import GOLDEN, golden_loop

CASES = ("b6_3", "b4_2")


def export_golden(name, folder, *words):
    files = GOLDEN / "litetrack" / name
    given = [str(files / "weights.safetensors"), "-o", str(folder), "--config", str(files / "config.yaml")]
    assert run(app, [*given, *words]) == 0
    return Bundle.open(folder)


@pytest.fixture(scope="module", params=CASES)
def case(request, tmp_path_factory):
    """The golden case's name and its bundle."""
    return request.param, export_golden(request.param, tmp_path_factory.mktemp(request.param) / "bundle")


def plain_model(name, bundle):
    kind = family("litetrack")
    model = kind.plain(kind.Recipe.from_dict(bundle.recipe))
    load_weights(model, read_checkpoint(GOLDEN / "litetrack" / name / "weights.safetensors").weights)
    return model


def test_the_bundle_is_whole_and_says_whose_it_is(case, capsys):
    name, bundle = case
    assert (bundle.family, bundle.target_box_format) == ("litetrack", "xyxy")
    assert bundle.recipe["ai_layers"] == int(name[-1])
    assert bundle.takes("template", "target_box")
    assert not bundle.takes("track", "target_box")
    assert bundle.entry("fp32")["check"]["passed"] is True
    assert bundle.manifest["macs"]["fast"] < bundle.manifest["macs"]["plain"]
    assert run(app, ["check", str(bundle.path)]) == 0
    assert capsys.readouterr().out.endswith(": whole\n")


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_both_engines_track_as_the_plain_form_does(case, backend):
    """The golden loop's frames with OSTrack's crops, from its first box and from a thin one."""
    name, bundle = case
    loop = golden_loop("ostrack")
    for start in (loop.init_box, [60.0, 80.0, 90.0, 12.0]):
        plain = PlainTracker(family("litetrack"), plain_model(name, bundle))
        plain.init(loop.frame(0), tuple(start))
        with Tracker.from_bundle(bundle, backend=backend, precision="fp32", threads=1) as tracker:
            tracker.init(loop.frame(0), start)
            for number in range(1, 12):
                frame = loop.frame(number)
                result = tracker.update(frame)
                box, score = plain.update(frame)
                np.testing.assert_allclose(result.box, box, rtol=0, atol=5e-3)
                assert result.score == pytest.approx(score, abs=5e-5)


def test_a_batch_tracks_each_target_as_if_alone(tmp_path):
    loop = golden_loop("ostrack")
    starts = np.array([loop.init_box, [60.0, 80.0, 90.0, 12.0]])
    single = export_golden("b4_2", tmp_path / "one")
    pair = export_golden("b4_2", tmp_path / "two", "--batch", "2")
    with Tracker.from_bundle(pair, backend="onnxruntime", threads=1) as both:
        both.init(loop.frame(0), starts)
        together = [both.update(loop.frame(n)).box for n in range(1, 5)]
    for row, start in enumerate(starts):
        with Tracker.from_bundle(single, backend="onnxruntime", threads=1) as alone:
            alone.init(loop.frame(0), start)
            for number, boxes in enumerate(together, start=1):
                expected = alone.update(loop.frame(number)).box
                np.testing.assert_allclose(boxes[row], expected, rtol=0, atol=1e-3)


def test_a_checkpoint_alone_stops_and_names_the_flag(tmp_path, capsys):
    weights = GOLDEN / "litetrack" / "b6_3" / "weights.safetensors"
    words = [str(weights), "-o", str(tmp_path / "b"), "--heads", "4"]
    crops = ["--template-factor", "2", "--search-factor", "4"]
    assert run(app, [*words, *crops]) == 2
    told = capsys.readouterr().err
    assert "say --ai-layers N, or give --config" in told
    assert not (tmp_path / "b").exists()
    assert run(app, [*words, *crops, "--ai-layers", "3", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["inferred"]
    assert {"what": "ai layers", "value": "3", "from": "--ai-layers"} in rows


@pytest.mark.parametrize("kind", ["eager", "naive"])
def test_the_benches_plain_form_gives_what_the_graphs_gave(case, kind):
    name, bundle = case
    with np.load(bundle.parity()) as file:
        stored = {key: array[:1] for key, array in file.items()}
    checkpoint = GOLDEN / "litetrack" / name / "weights.safetensors"
    template, track = plain_backends(bundle, kind, 1, checkpoint)
    sides = {key: stored[key] for key in ("template", "target_box")}
    found = track.run({"search": stored["search"], **template.run(sides)})
    for key in ("box", "score"):
        np.testing.assert_allclose(found[key], stored[key], atol=5e-5)
