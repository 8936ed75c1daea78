"""Golden cases of the family, read once."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file

from jntrt.export.families.plain import load_weights
from jntrt.export.families.siamese.infer import recipe_from_weights
from jntrt.export.families.siamese.plain.network import plain
from jntrt.export.families.siamese.recipe import Recipe

ROOT = Path(__file__).resolve().parents[4]
GOLDEN = ROOT / "tests" / "data" / "golden"
NANOTRACK = ("v1", "v2", "v3")
HNE = ("hne_a", "hne_b")


@dataclass(frozen=True)
class Case:
    """Crops uint8 1×S×S×3, the previous w and h in instance pixels 1×2 float32, what came out."""

    recipe: Recipe
    template: np.ndarray
    search: np.ndarray
    previous_size: np.ndarray
    expected: dict


@cache
def weights_of(name: str) -> dict[str, np.ndarray]:
    """float32 weights of v1, v2, v3 or hne."""
    file = {
        "v3": ROOT / "train" / "reference" / "nanotrack-v3.safetensors",
        "hne": GOLDEN / "hne" / "hne_a" / "weights.safetensors",
    }.get(name, GOLDEN / "nanotrack" / name / "weights.safetensors")
    loaded = load_file(file)
    return {k: v.astype(np.float32) if v.dtype.kind == "f" else v for k, v in loaded.items()}


@cache
def recipe_of(name: str) -> Recipe:
    return recipe_from_weights(weights_of(name))


@cache
def model_of(name: str):
    model = plain(recipe_of(name)).eval()
    assert not [n for n in load_weights(model, weights_of(name)) if not n.startswith("neck.downsample")]
    return model


def nanotrack_case(version: str, number: int) -> Case:
    """A case and, under `step`, the loop's last step, to which it belongs; under `scale`, 127 / s_z."""
    folder = GOLDEN / "nanotrack" / version
    arrays = dict(np.load(folder / f"case{number}.npz"))
    loop = json.loads((folder / f"loop{number}.json").read_text())
    step = loop["steps"][-1]
    w, h = step["previous_size"]
    scale = 127 / np.sqrt((w + (w + h) / 2) * (h + (w + h) / 2))
    assert np.allclose(arrays["previous_size"], (w, h))
    size = np.array([[w * scale, h * scale]], np.float32)
    expected = {**arrays, "step": step, "scale": scale}
    return Case(recipe_of(version), arrays["exemplar"][None], arrays["instance"][None], size, expected)


def hne_case(name: str) -> Case:
    folder = GOLDEN / "hne" / name
    inputs, outputs = dict(np.load(folder / "inputs.npz")), dict(np.load(folder / "outputs.npz"))
    meta = json.loads((folder / "meta.json").read_text())
    size = np.array([meta["previous_size_in_instance"]], np.float32)
    expected = {**outputs, "scale": meta["scale"], "state": inputs["state"]}
    return Case(recipe_of("hne"), inputs["exemplar"][None], inputs["instance"][None], size, expected)


@torch.no_grad()
def run_plain(name: str, case: Case) -> dict[str, np.ndarray]:
    """Maps and decoded values of one case, without the batch axis."""
    model = model_of(name)
    crops = (model.normalise(torch.from_numpy(crop)) for crop in (case.template, case.search))
    maps = model(*crops)
    return {
        k: v[0].numpy()
        for k, v in {**maps, **model.decode(maps, torch.from_numpy(case.previous_size))}.items()
    }
