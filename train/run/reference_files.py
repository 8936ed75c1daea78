"""A finished run as a checkpoint that `export-jn` takes: fp16 safetensors and the recipe's YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from jntrt.runtime.command.files import replacing
from jntrt.runtime.errors import UserError


def check_name(name: str) -> None:
    """UserError where `name` is no file's name."""
    if not name or Path(name).name != name:
        raise UserError(f"name {name!r}: give a file's name without folders")


def write_reference(
    average: dict[str, Tensor],
    experiment: dict[str, Any],
    folder: Path,
    name: str,
    presence_threshold: float | None,
    licence: str,
) -> list[Path]:
    """Writes NAME.safetensors (float16) and NAME.yaml into `folder` and returns both paths.

    experiment: the recipe as its family's experiment files have it; the facts about the weights are added.
    UserError where a weight does not fit float16, the threshold is no score or the name is a path.
    """
    import yaml
    from safetensors.torch import save

    if presence_threshold is not None and not 0 <= presence_threshold <= 1:
        raise UserError(f"presence threshold {presence_threshold:g}: a score lies between 0 and 1")
    check_name(name)
    halves = {}
    for key, value in average.items():
        if key.endswith("num_batches_tracked"):
            continue
        halves[key] = value.detach().cpu().to(torch.float16).contiguous()
        if not torch.isfinite(halves[key]).all():
            raise UserError(f"{key}: a value is not finite, or too large for float16; train with a lower lr")
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.safetensors", folder / f"{name}.yaml"]
    with replacing(paths[0], "wb") as stream:
        stream.write(save(halves))
    facts: dict[str, Any] = {"LICENSE": licence, "TRAINED": True}
    if presence_threshold is not None:
        facts["PRESENCE_THRESHOLD"] = round(presence_threshold, 3)
    with replacing(paths[1]) as stream:
        yaml.safe_dump(experiment | facts, stream, sort_keys=False, default_flow_style=None)
    return paths
