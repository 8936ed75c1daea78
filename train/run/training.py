"""The training loop: AdamW, warm-up and decay, averaged weights, resume, several processes under torchrun."""

from __future__ import annotations

import csv
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from jntrt.export.families.contract import Objective
from jntrt.export.families.plain import PlainForm
from jntrt.runtime.command.files import replacing
from jntrt.runtime.errors import UserError
from jntrt.train.run.config import TrainConfig
from jntrt.train.run.state import load_state, read_notes, save_state

LOG_EVERY = 20
Report = Callable[[int, dict[str, float]], None]


class InPrecision:
    """The model as a loss calls it: bfloat16 inside on a GPU or where it is asked for, results in float32."""

    def __init__(self, model: PlainForm, device: torch.device, bfloat16: bool = False) -> None:
        self._model, self._device = model, device
        self._lower = bfloat16 or device.type == "cuda"

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def __call__(self, *inputs: Any, **options: Any) -> dict[str, Tensor]:
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._lower):
            out = self._model(*inputs, **options)
        return {k: v.float() if v.is_floating_point() else v for k, v in out.items()}


def rate(config: TrainConfig, step: int) -> float:
    """The learning rate's factor at `step` (0-based)."""
    if step < config.warmup:
        return (step + 1) / config.warmup
    start = config.decay_from * config.steps
    if step < start:
        return 1.0
    if config.decay == "step":
        return 0.1
    return max(0.01, (config.steps - step) / max(1.0, config.steps - start))


def make_optimiser(
    config: TrainConfig, objective: Objective, model: nn.Module, extra: nn.Module
) -> torch.optim.AdamW:
    """AdamW; the family says what decays, and which share of the learning rate a parameter has."""
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in [*model.named_parameters(), *extra.named_parameters()]:
        groups.setdefault(objective.optimised(name, parameter), []).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": p, "scale": scale, "weight_decay": config.weight_decay if decays else 0.0}
            for (scale, decays), p in groups.items()
        ],
        lr=config.lr,
        betas=(0.9, config.beta2),
    )


def train(
    config: TrainConfig,
    model: PlainForm,
    feed: Callable[[int], Iterator[dict[str, Tensor]]],
    folder: Path,
    *,
    stop_at: int | None = None,
    save_seconds: float = 120.0,
    report: Report | None = None,
    teacher_channels: int = 0,
    bfloat16: bool = False,
) -> dict[str, Tensor]:
    """Trains from the state in `folder`, if there is one, to `config.steps` (or stops at `stop_at`).

    feed: first batch's number → batches. Appends to `folder`/log.csv, saves the state every `save_seconds`
    and at the end. bfloat16: autocast on a CPU too. Returns the averaged weights (the weights themselves
    without EMA). UserError where the loss or its gradient is not finite; the state is then the last good one.
    """
    rank, world, device = _processes()
    model.to(device).train()
    objective = config.objective()
    extra = objective.distillation(model, teacher_channels) if teacher_channels else nn.Identity()
    extra.to(device)
    average = {k: v.detach().clone() for k, v in model.state_dict().items()}
    optimiser = make_optimiser(config, objective, model, extra)
    step = load_state(folder, model, extra, average, optimiser) if read_notes(folder) else 0
    parameters = [*model.parameters(), *extra.parameters()]
    if world > 1:
        for tensor in [*parameters, *model.buffers()]:
            torch.distributed.broadcast(tensor.data, 0)
    network = InPrecision(model, device, bfloat16)
    end = config.steps if stop_at is None else min(stop_at, config.steps)
    if rank == 0:
        trim_log(folder / "log.csv", step)
    supply = feed(step * world + rank)
    sums: dict[str, float] = {}
    summed = 0
    began = saved = time.monotonic()
    while step < end:
        batch = {k: v.to(device, non_blocking=True) for k, v in next(supply).items()}
        factor = rate(config, step)
        # What the network draws (drop-path) depends on step and process alone: a resumed run draws the same.
        torch.manual_seed(int(np.random.SeedSequence((config.seed, step, rank)).generate_state(1)[0]))
        for group in optimiser.param_groups:
            group["lr"] = config.lr * factor * group["scale"]
        losses = objective.loss(network, batch, step)
        total = losses["loss"]
        if teacher_channels and "teacher_search" in batch:
            apart = extra(batch["teacher_template"], batch["teacher_search"])
            losses["teacher"] = apart.detach()
            total = total + config.teacher * max(0.0, 1 - step / config.teacher_until) * apart
        optimiser.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        if world > 1:
            _share_gradients(parameters, world)
        norm = nn.utils.clip_grad_norm_(parameters, config.clip)
        values = {k: float(v.detach()) for k, v in losses.items()} | {"gradient": float(norm)}
        if not all(math.isfinite(value) for value in values.values()):
            raise UserError(f"step {step + 1}: the loss or its gradient is not finite; lower lr or clip")
        optimiser.step()
        step += 1
        _average(average, model, config.ema, step)
        summed += 1
        for key, value in values.items():
            sums[key] = sums.get(key, 0.0) + value
        if rank == 0 and (step % LOG_EVERY == 0 or step == end):
            means = {k: v / summed for k, v in sums.items()}
            sums, summed = {}, 0
            row = {"step": step, "seconds": time.monotonic() - began, "lr": config.lr * factor} | means
            append_log(folder / "log.csv", row, objective.parts)
            if report is not None:
                report(step, row)
        if rank == 0 and (step == end or time.monotonic() - saved > save_seconds):
            save_state(folder, config, step, model, extra, average, optimiser)
            saved = time.monotonic()
    if world > 1:
        torch.distributed.destroy_process_group()
    return average


def trim_log(path: Path, step: int) -> None:
    """Drops what was logged after `step`: the resumed run takes these steps again."""
    if not path.is_file():
        return
    with path.open(newline="", encoding="utf-8") as file:
        header, *rows = [*file] or [""]
    # A line without its end is one that the run was stopped in.
    whole = [(row.split(",")[0], row) for row in rows if row.endswith("\n")]
    kept = [row for number, row in whole if number.isdigit() and int(number) <= step]
    if not kept:
        path.unlink()
        return
    with replacing(path) as file:
        file.writelines((header, *kept))


def append_log(path: Path, row: dict[str, float], parts: Sequence[str]) -> None:
    """One line of the log; the columns are fixed (`parts`: of the loss), so that a resumed run keeps them."""
    columns = ("step", "seconds", "lr", "loss", *parts, "teacher", "gradient")
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="")
        if fresh:
            writer.writeheader()
        writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})


def _share_gradients(parameters: list[nn.Parameter], world: int) -> None:
    """The mean of all processes' gradients, in one message (the networks are small, and the distillation's
    layers take part, which a wrapper around the model would not see)."""
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    grads = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([g.flatten() for g in grads])
    torch.distributed.all_reduce(flat)
    flat /= world
    for grad, part in zip(grads, torch.split(flat, [g.numel() for g in grads]), strict=True):
        grad.copy_(part.view_as(grad))


@torch.no_grad()
def _average(average: dict[str, Tensor], model: nn.Module, decay: float, step: int) -> None:
    """Exponential moving average; young averages forget faster, so that the start leaves no trace."""
    keep = min(decay, (1 + step) / (10 + step))
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            average[name].lerp_(value, 1 - keep)
        else:
            average[name].copy_(value)


def _processes() -> tuple[int, int, torch.device]:
    """Rank, number of processes and device: torchrun's where its variables are set."""
    local = int(os.environ.get("LOCAL_RANK", "0"))
    device = torch.device("cuda", local) if torch.cuda.is_available() else torch.device("cpu")
    if "RANK" not in os.environ:
        return 0, 1, device
    if device.type == "cuda":
        count = torch.cuda.device_count()
        if local >= count:
            raise UserError(f"more processes than GPUs: give torchrun --nproc_per_node={count}")
        torch.cuda.set_device(device)
    torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return torch.distributed.get_rank(), torch.distributed.get_world_size(), device
