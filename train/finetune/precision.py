"""Whether bfloat16 makes a step faster on this machine: measured, not guessed."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from statistics import median
from time import perf_counter

import torch
from torch import Tensor

from jntrt.export.families.contract import Objective
from jntrt.export.families.plain import PlainForm
from jntrt.train.run.training import InPrecision

ROUNDS = 3
WORTH = 0.9  # of float32's time: rounding is not for nothing


def bfloat16_is_faster(
    objective: Objective, model: PlainForm, batch: Mapping[str, Tensor]
) -> tuple[bool, float, float]:
    """Whether to take bfloat16, and the seconds of a step in float32 and in bfloat16 (medians, in turn).

    Gradients are dropped; NaN for bfloat16 where the CPU has no instructions for it.
    """
    model = copy.deepcopy(model).train()  # batch norms count what they see
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False, _step(objective, model, batch, lower=False), float("nan")
    times: dict[bool, list[float]] = {False: [], True: []}
    for number in range(ROUNDS + 1):
        for lower in (False, True):
            seconds = _step(objective, model, batch, lower=lower)
            if number:  # the first of each finds memory and kernels
                times[lower].append(seconds)
    single, half = median(times[False]), median(times[True])
    return half < WORTH * single, single, half


def _step(objective: Objective, model: PlainForm, batch: Mapping[str, Tensor], *, lower: bool) -> float:
    began = perf_counter()
    network = InPrecision(model, torch.device("cpu"), lower)
    objective.loss(network, batch, 0)["loss"].backward()  # type: ignore[no-untyped-call]
    model.zero_grad(set_to_none=True)
    return perf_counter() - began
