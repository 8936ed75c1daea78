"""The papers' objectives (OSTrack section 3.4, JN section 3): plain functions of maps and boxes.

Boxes are x1, y1, x2, y2 in units of the search crop unless said; sides come in the order l, t, r, b.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from jntrt.export.families.iou import box_iou

DISTANCE_MARGIN = 0.1  # the largest distance that DFL sees lies this far below the last bin


def quality_focal(sigma: Tensor, quality: Tensor, beta: float = 2.0) -> Tensor:
    """QFL (GFL, eq. 6) per element: |y-σ|^β times the cross-entropy of σ with the soft label y."""
    sigma = sigma.clamp(1e-12, 1 - 1e-7 if sigma.dtype == torch.float32 else 1 - 1e-12)
    entropy = -((1 - quality) * torch.log1p(-sigma) + quality * sigma.log())
    return (quality - sigma).abs().pow(beta) * entropy


def distribution_focal(logits: Tensor, distance: Tensor) -> Tensor:
    """DFL (GFL, eq. 4) per side: logits …×bins, distance … in cells, clamped to [0, bins - 1 - 0.1]."""
    bins = logits.shape[-1]
    distance = distance.clamp(0, bins - 1 - DISTANCE_MARGIN)
    low = distance.floor()
    weight = (distance - low)[..., None]
    log_p = logits.log_softmax(dim=-1)
    index = low.long()[..., None]
    chosen = (1 - weight) * log_p.gather(-1, index) + weight * log_p.gather(-1, index + 1)
    return -chosen[..., 0]


def iou_and_giou_loss(predicted: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and 1 - GIoU of boxes …×4 (x1, y1, x2, y2)."""
    iou, union = box_iou(predicted, true)
    outer_low = torch.minimum(predicted[..., :2], true[..., :2])
    outer_high = torch.maximum(predicted[..., 2:], true[..., 2:])
    outer = (outer_high - outer_low).clamp(min=0).prod(dim=-1)
    return iou, 1 - iou + (outer - union) / outer.clamp(min=1e-12)


def corners(boxes: Tensor) -> Tensor:
    """…×4 cx, cy, w, h → x1, y1, x2, y2."""
    return torch.cat((boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., :2] + boxes[..., 2:] / 2), dim=-1)


def gaussian_radius(width: float, height: float, overlap: float = 0.7) -> float:
    """CornerNet's radius as first released (all three roots divided by 2), width and height in cells."""
    b1, c1 = height + width, width * height * (1 - overlap) / (1 + overlap)
    b2, c2 = 2 * (height + width), (1 - overlap) * width * height
    a3, b3, c3 = 4 * overlap, -2 * overlap * (height + width), (overlap - 1) * width * height
    return min(
        (b1 + math.sqrt(b1**2 - 4 * c1)) / 2,
        (b2 + math.sqrt(b2**2 - 16 * c2)) / 2,
        (b3 + math.sqrt(b3**2 - 4 * a3 * c3)) / 2,
    )


def gaussian_map(boxes: Tensor, side: int) -> Tensor:
    """B×n×n target of the focal loss for boxes B×4 (cx, cy, w, h in units of the crop)."""
    maps = torch.zeros(len(boxes), side, side, dtype=boxes.dtype, device=boxes.device)
    cells = torch.arange(side, dtype=boxes.dtype, device=boxes.device)
    for g, (cx, cy, w, h) in zip(maps, (boxes.double() * side).tolist(), strict=True):
        # Python's round is half to even, as torch's and numpy's.
        column, row, reach = round(cx), round(cy), max(0, int(gaussian_radius(w, h)))
        sigma = (2 * reach + 1) / 6
        dx, dy = cells[None, :] - column, cells[:, None] - row
        bell = torch.exp(-(dx**2 + dy**2) / (2 * sigma**2))
        g.copy_(torch.where((dx.abs() <= reach) & (dy.abs() <= reach), bell, torch.zeros_like(bell)))
    return maps


def weighted_focal(score: Tensor, target: Tensor) -> Tensor:
    """OSTrack's eq. 6 (α 2, β 4) of B×n×n maps, divided by the number of cells at 1 (at least 1)."""
    peak = target == 1
    positive = (1 - score).pow(2) * score.log() * peak
    negative = (1 - target).pow(4) * score.pow(2) * torch.log1p(-score) * ~peak
    return -(positive.sum() + negative.sum()) / max(1, int(peak.sum()))


def distribution_loss(out: dict[str, Tensor], box: Tensor, present: Tensor) -> dict[str, Tensor]:
    """JN's loss with the distribution head.

    out: the head's maps; box: B×4 cx, cy, w, h; present: B bool. Positives and negatives are averaged apart:
    L = 1/N⁺·(5·L1 + 2·GIoU + 0.2·DFL + QFL) + 1/N⁻·QFL. Returns `loss` and its parts (no gradient).
    """
    terms = distribution_terms(out, corners(box), present)
    positives, negatives = present.sum().clamp(min=1), (~present).sum().clamp(min=1)
    inside = terms["inside"].flatten(1).sum(dim=1)
    mean_inside = (inside * present).sum() / positives
    scale = torch.where(present, inside.clamp(min=1), mean_inside.clamp(min=1))
    qfl = terms["qfl"].flatten(1).sum(dim=1) / scale
    weight = terms["weight"].flatten(1)
    total = weight.sum(dim=1).clamp(min=1e-6)
    l1, giou, dfl = (
        ((terms[name].flatten(1) * weight).sum(dim=1) / total * present).sum() / positives
        for name in ("l1", "giou", "dfl")
    )
    qfl_positive, qfl_negative = (qfl * present).sum() / positives, (qfl * ~present).sum() / negatives
    loss = 5 * l1 + 2 * giou + 0.2 * dfl + qfl_positive + qfl_negative
    parts = {"l1": l1, "giou": giou, "dfl": dfl, "qfl+": qfl_positive, "qfl-": qfl_negative}
    return {"loss": loss} | {name: part.detach() for name, part in parts.items()}


def distribution_terms(out: dict[str, Tensor], true: Tensor, present: Tensor) -> dict[str, Tensor]:
    """The loss cell by cell, each B×n×n: `qfl`, `l1`, `giou`, `dfl` (mean of the four sides), `quality` (y),
    `inside` and `weight` (σ at the inside cells of positives, no gradient). true: B×4 corners."""
    sigma, distances = out["sigma"][:, 0], out["distances"]
    side = sigma.shape[-1]
    grid = (torch.arange(side, dtype=sigma.dtype, device=sigma.device) + 0.5) / side
    x, y = grid[None, None, :].expand_as(sigma), grid[None, :, None].expand_as(sigma)
    left, top, right, bottom = (distances / side).unbind(dim=1)
    predicted = torch.stack((x - left, y - top, x + right, y + bottom), dim=-1)
    goal = true[:, None, None, :].expand_as(predicted)
    wanted = torch.stack((x - goal[..., 0], y - goal[..., 1], goal[..., 2] - x, goal[..., 3] - y), dim=-1)
    inside = (wanted > 0).all(dim=-1) & present[:, None, None]
    iou, giou = iou_and_giou_loss(predicted, goal)
    quality = torch.where(inside, iou, torch.zeros_like(iou)).detach()
    logits = out["reg_logits"].permute(0, 3, 4, 1, 2)
    return {
        "qfl": quality_focal(sigma, quality),
        "l1": (predicted - goal).abs().mean(dim=-1),
        "giou": giou,
        "dfl": distribution_focal(logits, wanted * side).mean(dim=-1),
        "quality": quality,
        "inside": inside,
        "weight": (sigma * inside).detach(),
    }


def center_loss(out: dict[str, Tensor], box: Tensor, present: Tensor) -> dict[str, Tensor]:
    """Focal + 2·GIoU + 5·L1 on positives (box read at the true centre's cell); on negatives the focal loss
    with an all-zero map."""
    side = out["score"].shape[-1]
    score = out["score"][:, 0]
    zero = score.sum() * 0
    focal = l1 = giou = negative = zero
    if present.any():
        focal = weighted_focal(score[present], gaussian_map(box[present], side))
        # A centre that rounds to n has no cell of its own in the map: the last one stands in.
        corner = (box[present, :2] * side).round().clamp(0, side - 1)
        cell = (corner[:, 1] * side + corner[:, 0]).long()
        offset, size = (_at(out[name][present], cell) for name in ("offset", "size"))
        predicted = corners(torch.cat(((corner + offset) / side, size), dim=1))
        true = corners(box[present])
        l1 = F.l1_loss(predicted, true)
        giou = iou_and_giou_loss(predicted, true)[1].mean()
    if (~present).any():
        negative = weighted_focal(score[~present], torch.zeros_like(score[~present])) / (~present).sum()
    loss = focal + 2 * giou + 5 * l1 + negative
    return {
        "loss": loss,
        "focal": focal.detach(),
        "l1": l1.detach(),
        "giou": giou.detach(),
        "focal-": negative.detach(),
    }


def corner_loss(out: dict[str, Tensor], box: Tensor, present: Tensor) -> dict[str, Tensor]:
    """5·L1 + 2·GIoU on positives; on negatives binary cross-entropy of both maps (before softmax)
    against zeros, mean over cells."""
    zero = out["tl_logits"].sum() * 0
    l1 = giou = negative = zero
    if present.any():
        side = out["tl"].shape[-1]
        k = torch.arange(side, dtype=box.dtype, device=box.device) / side
        maps = [out[name][present][:, 0] for name in ("tl", "br")]
        predicted = torch.stack([(m.sum(dim=axis) * k).sum(dim=1) for m in maps for axis in (1, 2)], dim=1)
        true = corners(box[present])
        l1 = F.l1_loss(predicted, true)
        giou = iou_and_giou_loss(predicted, true)[1].mean()
    if (~present).any():
        negative = torch.stack([F.softplus(out[f"{n}_logits"][~present]).mean() for n in ("tl", "br")]).sum()
    return {
        "loss": 5 * l1 + 2 * giou + negative,
        "l1": l1.detach(),
        "giou": giou.detach(),
        "bce-": negative.detach(),
    }


def departure(out: dict[str, Tensor], before: dict[str, Tensor]) -> Tensor:
    """How far the head's maps have gone from those of the network `before`, mean over samples.

    KL of the presence, mean over cells, plus the difference of the boxes' maps where the network before saw
    the target; KL of both maps for the corner head, whose cells are one distribution.
    """
    if "tl" in out:
        logs = [(maps["tl"].log(), maps["br"].log()) for maps in (before, out)]
        return torch.stack(
            [(p.exp() * (p - q)).sum(dim=(1, 2, 3)) for p, q in zip(*logs, strict=True)]
        ).mean()
    name = "sigma" if "sigma" in out else "score"
    p, q = (maps[name][:, 0].clamp(1e-6, 1 - 1e-6) for maps in (before, out))
    divergence = p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
    boxes = [kind for kind in ("distances", "offset", "size") if kind in out]
    apart = torch.cat([(out[kind] - before[kind]).abs() for kind in boxes], dim=1).mean(dim=1)
    return (divergence.mean(dim=(1, 2)) + (p * apart).sum(dim=(1, 2)) / p.sum(dim=(1, 2))).mean()


def keep_ratio_at(epoch: float, ratio: float, start: float, warm: float) -> float:
    """OSTrack's warm-up of the keep ratio: 1 until `start`, a cosine over `warm` epochs, then `ratio`."""
    if epoch < start:
        return 1.0
    if epoch >= start + warm:
        return ratio
    return ratio + (1 - ratio) * 0.5 * (1 + math.cos(math.pi * (epoch - start) / warm))


def _at(maps: Tensor, cell: Tensor) -> Tensor:
    return maps.flatten(2).gather(2, cell[:, None, None].expand(-1, maps.shape[1], 1))[:, :, 0]


LOSSES = {"distribution": distribution_loss, "center": center_loss, "corner": corner_loss}
