"""A tiny JN tracker with random weights as a bundle, and sequences of a textured square that moves."""

from pathlib import Path

import cv2
import numpy as np
import torch

from jntrt.calib.precisions.candidate import Models
from jntrt.export.families.ostrack.fast.graphs import build_graphs
from jntrt.export.families.ostrack.plain.network import OSTrack
from jntrt.export.families.ostrack.recipe import Recipe
from jntrt.runtime.bundle import Bundle, write_bundle

HEADS = {
    "center": {"head": "center"},
    "corner": {"head": "corner"},
    "distribution": {"head": "distribution", "bins": 9, "quality_dim": 8},
}


def tiny_recipe(
    head: str = "distribution", eliminate: bool = True, template_tokens: str = "center"
) -> Recipe:
    """16 template and 64 search tokens, 4 blocks of 2 heads."""
    return Recipe(
        family="jn" if head == "distribution" else "ostrack",
        template_size=64,
        template_factor=2.0,
        search_size=128,
        search_factor=4.0,
        dim=32,
        depth=4,
        heads=2,
        mlp_dim=64,
        head_channels=64,
        target_hidden=8 if head == "distribution" else 0,
        ce_layers=(1, 2) if eliminate else (),
        keep_ratio=(0.7, 0.7) if eliminate else (),
        template_tokens=template_tokens,
        **HEADS[head],
    )


def random_weights(recipe: Recipe, seed: int = 0) -> dict[str, np.ndarray]:
    torch.manual_seed(seed)
    model = OSTrack(recipe)
    weights = {}
    for name, value in model.state_dict().items():
        if not value.is_floating_point():
            continue
        # Larger than trained weights begin with, so that no layer is invisible.
        spread = torch.randn_like(value) * {1: 0.05, 4: 0.15}.get(value.dim(), 0.2)
        one = name.endswith("running_var") or (name.endswith("weight") and value.dim() == 1)
        weights[name] = (spread.abs() * 0.2 + 1 if one else spread).numpy().astype(np.float32)
    return weights


def tiny_models(recipe: Recipe, batch: int = 1, weights: dict[str, np.ndarray] | None = None) -> Models:
    return Models(*build_graphs(recipe, weights or random_weights(recipe), batch))


def feeds(models: Models, seed: int = 0) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Random inputs of the template graph, and those of the track graph that are no memory."""
    rng = np.random.default_rng(seed)
    given = []
    for model in (models.template, models.track):
        values = {}
        for tensor in model.graph.input:
            shape = [dim.dim_value for dim in tensor.type.tensor_type.shape.dim]
            if tensor.type.tensor_type.elem_type == 2:
                values[tensor.name] = rng.integers(0, 256, shape, np.uint8)
            elif tensor.name == "target_box":
                values[tensor.name] = np.tile(np.array([[0, 0, 0.5, 0.4]], np.float32), (shape[0], 1))
            elif tensor.name == "template_weights":
                values[tensor.name] = np.full(shape, 1 / shape[1], np.float32)
        given.append(values)
    return given[0], given[1]


def write_tiny(folder: Path, recipe: Recipe, weights: dict[str, np.ndarray] | None = None) -> Bundle:
    models = tiny_models(recipe, weights=weights)
    graphs = {"template": models.template, "track": models.track}
    manifest = {
        "format": 1,
        "name": "tiny",
        "family": recipe.family,
        "batch": 1,
        "weights": "untrained",
        "recipe": recipe.to_dict(),
        "template": {"size": recipe.template_size, "factor": recipe.template_factor},
        "search": {"size": recipe.search_size, "factor": recipe.search_factor},
        "presence_threshold": 0.25,
        "precisions": {"fp32": {name: {"file": f"{name}.onnx"} for name in graphs}},
        "inputs": [
            {"graph": name, "name": tensor.name} for name, m in graphs.items() for tensor in m.graph.input
        ],
    }
    return write_bundle(
        folder, manifest, {f"{name}.onnx": m.SerializeToString() for name, m in graphs.items()}
    )


def write_sequences(root: Path, names=("A", "B", "C"), frames=12) -> Path:
    """GOT-10k folders: a textured square of about 40 px crosses a noisy picture of 192×144."""
    rng = np.random.default_rng(5)
    texture = rng.integers(0, 255, (36, 44, 3), dtype=np.uint8)
    for k, name in enumerate(names):
        folder = root / name
        folder.mkdir(parents=True)
        background = cv2.GaussianBlur(rng.integers(0, 160, (144, 192, 3), dtype=np.uint8), (9, 9), 3)
        boxes = []
        for number in range(frames):
            image = background.copy()
            x, y = 40 + (3 + k) * number, 50 + (k - 1) * 2 * number
            image[y : y + 36, x : x + 44] = texture
            cv2.imwrite(str(folder / f"{number + 1:08d}.jpg"), image, [cv2.IMWRITE_JPEG_QUALITY, 92])
            boxes.append(f"{x},{y},44,36")
        (folder / "groundtruth.txt").write_text("\n".join(boxes) + "\n")
    return root
