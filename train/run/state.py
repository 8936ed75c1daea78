"""A run on disk: tensors as safetensors, the rest as JSON; nothing in either can run code."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from jntrt.runtime.command.files import replacing
from jntrt.runtime.errors import UserError
from jntrt.train.run.config import TrainConfig

TENSORS, NOTES = "state.safetensors", "state.json"


def check_folder(folder: Path) -> None:
    """UserError where a run cannot be kept in `folder`: it is a file."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: a file; name a folder for the run")


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
    folder.mkdir(parents=True, exist_ok=True)
    written = folder / f"step-{step}.safetensors"
    save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, written)
    with written.open("rb") as file:
        os.fsync(file.fileno())  # a machine that stops must not leave a name without content
    notes = {"format": 1, "step": step, "tensors": written.name, "config": config.to_dict()}
    with replacing(folder / NOTES) as stream:  # the notes name the tensors: this is the moment of change
        json.dump(notes, stream, indent=1)
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
        config, tensors = dict(notes["config"]), Path(notes["tensors"]).name
        return {"step": int(notes["step"]), "config": config, "tensors": tensors}
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
    notes, tensors = _read(folder)
    try:
        model.load_state_dict(_part(tensors, "model."))
    except RuntimeError as error:
        raise UserError(
            f"{folder}: the state is of another network: {' '.join(str(error).split())}"
        ) from None
    projection = _part(tensors, "extra.")
    if projection.keys() != extra.state_dict().keys():
        kind, remedy = ("with", "give it again") if projection else ("without", "leave it out")
        raise UserError(f"{folder}: the run was begun {kind} a teacher; {remedy}")
    extra.load_state_dict(projection)
    for name, value in _part(tensors, "average.").items():
        average[name].copy_(value)
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in _part(tensors, "optimiser.").items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
    return int(notes["step"])


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Notes and tensors of one moment of the run in `folder`; UserError where that is impossible."""
    notes = read_notes(folder)
    while notes is not None:
        try:
            return notes, load_file(folder / notes["tensors"])
        except (OSError, SafetensorError) as error:
            before, notes = notes, read_notes(folder)
            if notes == before:
                raise UserError(f"{folder / notes['tensors']}: cannot be read: {error}") from None
            # The run is in progress, and has saved its next state and removed this one.
    raise UserError(f"{folder}: no training state")


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def load_average(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The notes (as `read_notes`) and the averaged weights of the state in `folder`."""
    notes, tensors = _read(folder)
    return notes, _part(tensors, "average.")
