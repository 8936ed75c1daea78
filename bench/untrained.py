"""Bundles of untrained networks: what a recipe costs in time needs no checkpoint. Needs the export extra."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jntrt.export.families import family
from jntrt.export.onnx.tensors import tensor_rows
from jntrt.export.rules import count_macs
from jntrt.runtime.bundle import Bundle, write_bundle
from jntrt.runtime.bundle.manifest import FORMAT


def untrained_bundle(folder: Path, name: str, recipe: Any, *, batch: int = 1) -> Bundle:
    """Write the fp32 bundle of a recipe of the family called `name`, with seeded random weights."""
    import torch

    kind = family(name)
    torch.manual_seed(0)
    weights = {key: value.numpy() for key, value in kind.plain(recipe).state_dict().items()}
    graphs = dict(zip(("template", "track"), kind.graphs(recipe, weights, batch), strict=True))
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "name": folder.name,
        "family": name,
        "batch": batch,
        "weights": "untrained",
        "recipe": recipe.to_dict(),
        **kind.conventions(recipe),
        "presence_threshold": 0.25,
        "macs": {"plain": batch * kind.macs(recipe), "fast": count_macs(graphs["track"])},
        "precisions": {"fp32": {graph: {"file": f"{graph}.onnx"} for graph in graphs}},
        "inputs": [],
        "outputs": [],
    }
    for graph, model in graphs.items():
        manifest["inputs"] += tensor_rows(graph, model.graph.input)
        manifest["outputs"] += tensor_rows(graph, model.graph.output)
    return write_bundle(
        folder, manifest, {f"{graph}.onnx": model.SerializeToString() for graph, model in graphs.items()}
    )
