"""A run on disk: tensors as safetensors, the rest as JSON; nothing in either can run code."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from jntrt.runtime.errors import UserError
from jntrt.train.config import TrainConfig
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

TENSORS, NOTES = "state.safetensors", "state.json"


def save_state(
    folder: Path,
    config: TrainConfig,
    step: int,
    model: nn.Module,
    extra: nn.Module,
    average: dict[str, Tensor],
    optimiser: torch.optim.Optimizer,
) -> None:
    """Writes model, `extra` (distillation layers), average and optimiser; an interrupted write leaves the old
    state whole."""
    tensors = {f"model.{k}": v for k, v in model.state_dict().items()}
    tensors |= {f"extra.{k}": v for k, v in extra.state_dict().items()}
    tensors |= {f"average.{k}": v for k, v in average.items()}
    for index, state in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{k}": v for k, v in state.items()}
    tensors["rng"] = torch.get_rng_state()
    folder.mkdir(parents=True, exist_ok=True)
    written = folder / f"step-{step}.safetensors"
    save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, written)
    notes = {"format": 1, "step": step, "tensors": written.name, "config": config.to_dict()}
    temporary = folder / (NOTES + ".part")
    temporary.write_text(json.dumps(notes, indent=1), encoding="utf-8")
    os.replace(temporary, folder / NOTES)  # the notes name the tensors: this is the moment of change
    for old in folder.glob("step-*.safetensors"):
        if old != written:
            old.unlink()


def read_notes(folder: Path) -> dict[str, Any] | None:
    """The JSON part of the state in `folder`: `step`, `config`, `tensors`; None where there is no state."""
    path = folder / NOTES
    if not path.exists():
        return None
    try:
        notes = json.loads(path.read_text(encoding="utf-8"))
        return {"step": int(notes["step"]), "config": notes["config"], "tensors": Path(notes["tensors"]).name}
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path}: not a training state; give another folder or remove it") from None


def load_state(
    folder: Path,
    model: nn.Module,
    extra: nn.Module,
    average: dict[str, Tensor],
    optimiser: torch.optim.Optimizer,
) -> int:
    """Puts the state of `folder` back and returns its step. UserError when it is another network's."""
    notes = read_notes(folder)
    if notes is None:
        raise UserError(f"{folder}: no training state to go on from")
    try:
        tensors = load_file(folder / notes["tensors"])
    except (OSError, SafetensorError) as error:
        raise UserError(f"{folder / notes['tensors']}: cannot be read: {error}") from None
    try:
        model.load_state_dict(_part(tensors, "model."))
        extra.load_state_dict(_part(tensors, "extra."))
    except RuntimeError as error:
        raise UserError(
            f"{folder}: the state is of another network: {' '.join(str(error).split())}"
        ) from None
    for name, value in _part(tensors, "average.").items():
        average[name].copy_(value)
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in _part(tensors, "optimiser.").items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
    torch.set_rng_state(tensors["rng"])
    return int(notes["step"])


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def load_average(folder: Path) -> dict[str, Tensor]:
    """The averaged weights of the state in `folder`."""
    notes = read_notes(folder)
    if notes is None:
        raise UserError(f"{folder}: no training state")
    return _part(load_file(folder / notes["tensors"]), "average.")
