"""What the check on a GPU makes for itself."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from onnx import load

from jntrt.bench.gpu.bundles import _weights, head_from_map
from jntrt.bench.untrained import untrained_bundle
from jntrt.export.families import family
from jntrt.runtime.bundle import Bundle, write_bundle
from jntrt.runtime.engines import backend_class
from jntrt.runtime.engines.options import EngineOptions
from jntrt.runtime.engines.precision import find_precision


def with_parity(bundle: Bundle) -> Bundle:
    """The head's other form travels with the samples of the first; what is in them does not matter here."""
    files = {f"{graph}.onnx": bundle.graph(graph, "fp32") for graph in ("template", "track")}
    target = bundle.path.with_name("sampled")
    content = bundle.path.with_name("parity.npz")
    np.savez(content, box=np.zeros((1, 4), np.float32))
    return write_bundle(target, bundle.manifest, {**files, "parity.npz": content})


def test_the_heads_two_forms_are_one_network(tmp_path: Path) -> None:
    """Gather and convolve, or multiply and gather: the same boxes from the same crops."""
    kind = family("ostrack")
    recipe = replace(kind.NETWORKS["tiny"], ce_layers=(0,), keep_ratio=(0.7,))
    first = with_parity(untrained_bundle(tmp_path / "first", "ostrack", recipe))
    second = head_from_map(first, recipe, _weights(kind, recipe), tmp_path / "second")
    assert "head/conv1/taps" not in {node.name for node in load(second.graph("track", "fp32")).graph.node}
    rng = np.random.default_rng(0)
    crops = {
        "template": rng.integers(0, 256, (1, *[first.template.size] * 2, 3), np.uint8),
        "search": rng.integers(0, 256, (1, *[first.search.size] * 2, 3), np.uint8),
    }
    engine, outputs = backend_class("onnxruntime"), []
    for bundle in (first, second):
        pair = engine.open(bundle, find_precision("fp32"), EngineOptions(threads=1))
        memory = pair.template.run({"template": crops["template"]})
        outputs.append(pair.track.run({"search": crops["search"], **memory}))
        pair.close()
    for name in ("box", "score"):
        np.testing.assert_allclose(outputs[1][name], outputs[0][name], rtol=0, atol=1e-5)
