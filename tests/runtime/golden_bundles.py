"""Bundles of the golden networks, exported for a test, and the golden loops as one kind of record."""

import io
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime as ort
import yaml
from safetensors.numpy import load_file

from jntrt.export.families import family
from jntrt.export.families.ostrack.fast.graphs import build_graphs
from jntrt.export.families.ostrack.recipe import Recipe
from jntrt.export.families.siamese.infer import recipe_from_weights
from jntrt.runtime.bundle import Bundle, write_bundle

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
LOOPS = {"ostrack": GOLDEN / "loops/ostrack256_ce_loop", "jn": GOLDEN / "jn/loop"}
HEADS = {"CENTER": "center", "DIST": "distribution"}


@dataclass(frozen=True)
class Step:
    """One update of a golden loop: frame number, state before and after, presence score."""

    frame: int
    before: list[float]
    after: list[float]
    score: float


@dataclass(frozen=True)
class Loop:
    """A golden loop: where its frames lie, the first box, and what every update must give."""

    folder: Path
    init_box: list[float]
    steps: list[Step]

    def frame(self, number: int) -> np.ndarray:
        """H×W×3 uint8 RGB."""
        image = cv2.imread(str(self.folder / "frames" / f"{number:03d}.png"), cv2.IMREAD_COLOR)
        assert image is not None
        return np.ascontiguousarray(image[..., ::-1])


@cache
def golden_loop(name: str) -> Loop:
    folder = LOOPS[name]
    loop = json.loads((folder / "loop.json").read_text())
    if name == "jn":
        steps = [Step(s["frame"], s["state"], s["new_state"], s["score"]) for s in loop["steps"]]
        return Loop(folder, loop["init_box"], steps)
    maps = np.load(folder / "score_maps.npz")
    scores = maps[maps.files[0]].reshape(len(loop["records"]), -1)
    steps = [
        Step(r["frame"], r["state_before"], r["state_after"], float(scores[i, r["argmax"]]))
        for i, r in enumerate(loop["records"])
    ]
    return Loop(folder, loop["init_bbox"], steps)


def golden_network(name: str) -> tuple[Recipe, dict[str, np.ndarray]]:
    """Recipe and float32 weights of a golden network, by its folder's name."""
    folder = GOLDEN / ("jn" if name.startswith("jn") else "networks") / name
    meta = json.loads((folder / "meta.json").read_text())
    files = meta["weights"] if isinstance(meta["weights"], list) else [meta["weights"]]
    weights: dict[str, np.ndarray] = {}
    for file in files:
        weights |= {k: v.astype(np.float32) for k, v in load_file(folder / file).items()}
    config = yaml.safe_load((folder / "config.yaml").read_text())
    backbone, data = config["MODEL"]["BACKBONE"], config["DATA"]
    dist = config["MODEL"]["HEAD"]["TYPE"] == "DIST"
    recipe = Recipe(
        family=config.get("family", "ostrack"),
        template_size=data["TEMPLATE"]["SIZE"],
        template_factor=data["TEMPLATE"]["FACTOR"],
        search_size=data["SEARCH"]["SIZE"],
        search_factor=data["SEARCH"]["FACTOR"],
        dim=backbone["EMBED_DIM"],
        depth=backbone["DEPTH"],
        heads=backbone["NUM_HEADS"],
        mlp_dim=weights["backbone.blocks.0.mlp.fc1.weight"].shape[0],
        head=HEADS[config["MODEL"]["HEAD"]["TYPE"]],
        head_channels=weights[f"box_head.conv1_{'cls' if dist else 'ctr'}.0.weight"].shape[0],
        bins=17 if dist else 0,
        quality_dim=64 if dist else 0,
        target_hidden=len(weights.get("target_token_embed.fc1.bias", ())),
        ce_layers=tuple(backbone.get("CE_LOC", ())),
        keep_ratio=tuple(backbone.get("CE_KEEP_RATIO", ())),
        template_tokens="box" if backbone.get("CE_TEMPLATE_RANGE") == "GT_BOX" else "center",
    )
    return recipe, weights


def export_golden(name: str, folder: Path, batch: int = 1) -> Bundle:
    """The bundle of a golden network (CTR_POINT, GT_BOX or no elimination; centre or distribution head)."""
    recipe, weights = golden_network(name)
    graphs = dict(zip(("template", "track"), build_graphs(recipe, weights, batch), strict=True))
    inputs = [
        {"graph": graph, "name": tensor.name}
        for graph, model in graphs.items()
        for tensor in model.graph.input
    ]
    manifest: dict[str, Any] = {
        "format": 1,
        "name": name,
        "family": recipe.family,
        "batch": batch,
        "weights": "untrained",
        "recipe": recipe.to_dict(),
        "template": {"size": recipe.template_size, "factor": recipe.template_factor},
        "search": {"size": recipe.search_size, "factor": recipe.search_factor},
        "presence_threshold": 0.25,
        "precisions": {"fp32": {graph: {"file": f"{graph}.onnx"} for graph in graphs}},
        "inputs": inputs,
    }
    files = {f"{graph}.onnx": model.SerializeToString() for graph, model in graphs.items()}
    if batch == 1 and recipe.template_tokens == "center":
        files["parity.npz"] = parity_samples(recipe, graphs)
    return write_bundle(folder, manifest, files)


@cache
def nanotrack_weights(version: str) -> dict[str, np.ndarray]:
    """The published weights of v1, v2 or v3."""
    folder = GOLDEN / "nanotrack" / version
    reference = GOLDEN.parents[2] / "train" / "reference" / "nanotrack-v3.safetensors"
    return dict(load_file(reference if version == "v3" else folder / "weights.safetensors"))


def write_nanotrack(version: str, folder: Path) -> Bundle:
    """The bundle of a published NanoTrack, as an export of its family writes it."""
    weights = nanotrack_weights(version)
    kind, recipe = family("siamese"), recipe_from_weights(weights)
    graphs = dict(zip(("template", "track"), kind.graphs(recipe, weights, 1), strict=True))
    manifest: dict[str, Any] = {
        "format": 1,
        "name": version,
        "family": "siamese",
        "batch": 1,
        "recipe": recipe.to_dict(),
        **kind.conventions(recipe),
        "presence_threshold": 0.25,
        "precisions": {"fp32": {graph: {"file": f"{graph}.onnx"} for graph in graphs}},
        "inputs": [
            {"graph": graph, "name": tensor.name}
            for graph, model in graphs.items()
            for tensor in model.graph.input
        ],
    }
    return write_bundle(folder, manifest, {f"{g}.onnx": m.SerializeToString() for g, m in graphs.items()})


def parity_samples(recipe: Recipe, graphs: dict[str, Any], count: int = 2) -> bytes:
    """parity.npz of noise: `count` samples with the outputs of ONNX Runtime in fp32, batch 1."""
    rng = np.random.default_rng(3)
    sessions = {name: ort.InferenceSession(model.SerializeToString()) for name, model in graphs.items()}
    rows: dict[str, list[np.ndarray]] = {}
    for _ in range(count):
        sample: dict[str, np.ndarray] = {
            "template": rng.integers(0, 256, (1, *[recipe.template_size] * 2, 3), np.uint8),
            "search": rng.integers(0, 256, (1, *[recipe.search_size] * 2, 3), np.uint8),
        }
        if recipe.target_hidden:
            sample["target_box"] = np.array([[0.0, 0.0, 0.5, 0.4]], np.float32)
        outputs: dict[str, np.ndarray] = {}
        for session in sessions.values():
            given = {**sample, **outputs}
            feeds = {i.name: given[i.name] for i in session.get_inputs()}
            outputs |= {
                o.name: v for o, v in zip(session.get_outputs(), session.run(None, feeds), strict=True)
            }
        for name in ("box", "score"):
            sample[name] = outputs[name]
        for name, value in sample.items():
            rows.setdefault(name, []).append(value)
    buffer = io.BytesIO()
    np.savez(buffer, **{name: np.concatenate(values) for name, values in rows.items()})
    return buffer.getvalue()
