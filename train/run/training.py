"""The training loop: AdamW, warm-up and decay, averaged weights, resume, several processes under torchrun."""

from __future__ import annotations

import csv
import math
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from jntrt.export.families.ostrack.encoder import Block
from jntrt.export.families.ostrack.losses import LOSSES, keep_ratio_at
from jntrt.export.families.ostrack.network import OSTrack, normalise
from jntrt.runtime.errors import UserError
from jntrt.train.run.config import TrainConfig
from jntrt.train.run.state import load_state, read_notes, save_state
from torch import Tensor, nn

LOG_EVERY = 20
Report = Callable[[int, dict[str, float]], None]


class Distillation(nn.Module):
    """Pulls the encoder's tokens before block `layer`, or before the first elimination, towards a teacher's
    features of the same grid.

    Each token's linear image is compared with the teacher's feature: 1 - cosine plus half the mean square.
    """

    def __init__(self, model: OSTrack, channels: int, layer: int = 2) -> None:
        super().__init__()
        self.projection = nn.Linear(model.recipe.dim, channels)
        self._seen: Tensor | None = None
        blocks = model.backbone.blocks
        # Not after an elimination: the tokens would be fewer, and in another order than the teacher's.
        block = blocks[min(layer, len(blocks) - 1, *model.recipe.ce_layers)]
        assert isinstance(block, Block)
        block.norm1.register_forward_pre_hook(self._listen)

    def _listen(self, module: nn.Module, inputs: tuple[Tensor]) -> None:
        self._seen = inputs[0]

    def forward(self, template: Tensor, search: Tensor) -> Tensor:
        """template: B×Nz×C, search: B×n²×C teacher features of the batch that the model has just seen."""
        wanted = torch.cat((template, search), dim=1)
        assert self._seen is not None
        given = self.projection(self._seen[:, -wanted.shape[1] :])
        cosine = nn.functional.cosine_similarity(given, wanted, dim=2).mean()
        return 1 - cosine + 0.5 * nn.functional.mse_loss(given, wanted)


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


def make_optimiser(config: TrainConfig, model: OSTrack, extra: nn.Module) -> torch.optim.AdamW:
    """AdamW; weight decay on matrices only, `backbone_lr` on the encoder."""
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in [*model.named_parameters(), *extra.named_parameters()]:
        scale = config.backbone_lr if name.startswith("backbone.") else 1.0
        decays = parameter.ndim > 1 and "pos_embed" not in name
        groups.setdefault((scale, decays), []).append(parameter)
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
    model: OSTrack,
    feed: Callable[[int], Iterator[dict[str, Tensor]]],
    folder: Path,
    *,
    stop_at: int | None = None,
    save_seconds: float = 120.0,
    report: Report | None = None,
    teacher_channels: int = 0,
) -> dict[str, Tensor]:
    """Trains from the state in `folder`, if there is one, to `config.steps` (or stops at `stop_at`).

    feed: first batch's number → batches. Appends to `folder`/log.csv, saves the state every `save_seconds`
    and at the end. Returns the averaged weights (the weights themselves without EMA). UserError where the
    loss or its gradient is not finite; the state is then the last good one.
    """
    rank, world, device = _processes()
    model.to(device).train()
    extra: nn.Module = Distillation(model, teacher_channels) if teacher_channels else nn.Identity()
    extra.to(device)
    average = {k: v.detach().clone() for k, v in model.state_dict().items()}
    optimiser = make_optimiser(config, model, extra)
    step = load_state(folder, model, extra, average, optimiser) if read_notes(folder) else 0
    parameters = [*model.parameters(), *extra.parameters()]
    if world > 1:
        for tensor in [*parameters, *model.buffers()]:
            torch.distributed.broadcast(tensor.data, 0)
    objective = LOSSES[config.recipe.head]
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
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            out = model(
                normalise(batch["template"]),
                normalise(batch["search"]),
                batch["target_box"],
                batch["tokens"],
                keep_ratio=_keep(config, step),
            )
        out = {k: v.float() if v.is_floating_point() else v for k, v in out.items()}
        losses = objective(out, batch["box"], batch["present"])
        total = losses["loss"]
        if isinstance(extra, Distillation) and "teacher_search" in batch:
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
            append_log(folder / "log.csv", row)
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
    part = path.with_name(path.name + ".part")
    with part.open("w", newline="", encoding="utf-8") as file:
        file.writelines((header, *kept))
    os.replace(part, path)


def append_log(path: Path, row: dict[str, float]) -> None:
    """One line of the log; the columns are fixed, so that a run that was resumed keeps them."""
    columns = (
        "step", "seconds", "lr", "loss", "l1", "giou", "dfl", "qfl+", "qfl-", "focal", "focal-", "bce-",
        "teacher", "gradient",
    )  # fmt: skip
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


def _keep(config: TrainConfig, step: int) -> list[float] | None:
    if not config.recipe.ce_layers:
        return None
    return [keep_ratio_at(step, r, config.ce_start, config.ce_warm) for r in config.recipe.keep_ratio]


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
