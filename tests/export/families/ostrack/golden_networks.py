"""Reads the golden network cases: recipe, weights (float32), inputs, outputs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
import yaml
from safetensors.numpy import load_file

from jntrt.export.families.ostrack.plain.network import OSTrack
from jntrt.export.families.ostrack.recipe import Recipe
from jntrt.export.families.plain import load_weights

ROOT = Path(__file__).resolve().parents[3] / "data" / "golden"
OSTRACK = (
    "ostrack256_ce",
    "ostrack384_ce",
    "ostrack256_nce",
    "small_all",
    "small_rec",
    "small_box",
    "small_batch2",
)
JN = ("jn256", "jn256_ce", "jn384", "jn_cae", "jn_center", "jn_corner")
RANGES = {"CTR_POINT": "center", "CTR_REC": "rect", "ALL": "all", "GT_BOX": "box"}
HEADS = {"CENTER": "center", "CORNER": "corner", "DIST": "distribution"}


@dataclass(frozen=True)
class Case:
    """One golden case. Images are uint8 B×S×S×3; `target_box` B×4 and `mask` B×Nz may be None."""

    name: str
    recipe: Recipe
    weights: dict[str, np.ndarray]
    template: np.ndarray
    search: np.ndarray
    target_box: np.ndarray | None
    mask: np.ndarray | None
    outputs: dict[str, np.ndarray]


@cache
def golden_case(name: str) -> Case:
    folder = ROOT / ("jn" if name.startswith("jn") else "networks") / name
    meta = json.loads((folder / "meta.json").read_text())
    files = meta["weights"] if isinstance(meta["weights"], list) else [meta["weights"]]
    weights: dict[str, np.ndarray] = {}
    for file in files:
        for key, value in load_file(folder / file).items():
            weights[key] = value.astype(np.float32) if value.dtype.kind == "f" else value
    config = yaml.safe_load((folder / "config.yaml").read_text())
    inputs = dict(np.load(folder / meta.get("inputs", "inputs.npz")))
    outputs = dict(np.load(folder / "outputs.npz"))
    template, search = (x if x.ndim == 4 else x[None] for x in (inputs["template"], inputs["search"]))
    return Case(
        name=name,
        recipe=_recipe(config, weights),
        weights=weights,
        template=template,
        search=search,
        target_box=outputs["tit_box"][None] if "tit_box" in outputs else None,
        mask=inputs["ce_template_mask"][None] if "ce_template_mask" in inputs else None,
        outputs=outputs,
    )


def _recipe(config: dict, weights: dict[str, np.ndarray]) -> Recipe:
    backbone, data = config["MODEL"]["BACKBONE"], config["DATA"]
    head = HEADS[config["MODEL"]["HEAD"]["TYPE"]]
    distribution = head == "distribution"
    first = {"center": "ctr", "corner": "tl", "distribution": "cls"}[head]
    return Recipe(
        family=config.get("family", "ostrack"),
        template_size=data["TEMPLATE"]["SIZE"],
        template_factor=data["TEMPLATE"]["FACTOR"],
        search_size=data["SEARCH"]["SIZE"],
        search_factor=data["SEARCH"]["FACTOR"],
        dim=backbone["EMBED_DIM"],
        depth=backbone["DEPTH"],
        heads=backbone["NUM_HEADS"],
        mlp_dim=weights["backbone.blocks.0.mlp.fc1.weight"].shape[0],
        qkv="qv" if "backbone.blocks.0.attn.q_bias" in weights else "qkv",
        layer_scale="backbone.blocks.0.gamma_1" in weights,
        head=head,
        head_channels=weights[f"box_head.conv1_{first}.0.weight"].shape[0],
        bins=weights["box_head.conv5_reg.weight"].shape[0] // 4 if distribution else 0,
        quality_dim=weights["box_head.quality.fc1.weight"].shape[0] if distribution else 0,
        target_hidden=len(weights.get("target_token_embed.fc1.bias", ())),
        target_box_format=config["MODEL"].get("TARGET_BOX_FORMAT", "cxcywh"),
        ce_layers=tuple(backbone.get("CE_LOC", ())),
        keep_ratio=tuple(backbone.get("CE_KEEP_RATIO", ())),
        template_tokens=RANGES[backbone.get("CE_TEMPLATE_RANGE", "CTR_POINT")],
    )


def plain_model(case: Case) -> OSTrack:
    model = OSTrack(case.recipe).eval()
    load_weights(model, case.weights)
    return model


def tensors(case: Case) -> dict[str, torch.Tensor]:
    """The keyword arguments of `OSTrack.forward`."""
    model = plain_model(case)
    values = {"template": model.normalise(torch.from_numpy(case.template))}
    values["search"] = model.normalise(torch.from_numpy(case.search))
    if case.target_box is not None and case.recipe.target_hidden:
        values["target_box"] = torch.from_numpy(case.target_box)
    if case.mask is not None and case.recipe.template_tokens == "box":
        values["template_mask"] = torch.from_numpy(case.mask)
    return values
