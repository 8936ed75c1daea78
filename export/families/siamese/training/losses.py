"""What the two trackers are trained by, as pure functions: cells' targets, and losses over maps.

Boxes are x1, y1, x2, y2 in instance pixels, distances l, t, r, b from a cell's point in the same; maps are
flattened, row-major: B×n². A mean over nothing is 0 and keeps its gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from jntrt.export.families.iou import box_iou

FOCAL_ALPHA, FOCAL_GAMMA = 0.25, 2.0
MARGIN = 2.0
POSITIVES, NEGATIVES = 16, 48  # cells that NanoTrack draws of a pair with the target
OUTSIDERS = 16  # of a pair without it


def side_distances(points: Tensor, boxes: Tensor) -> Tensor:
    """l, t, r, b from points N×2 to boxes B×4: B×N×4; negative where a point is outside."""
    near = points - boxes[:, None, :2]
    far = boxes[:, None, 2:] - points
    return torch.cat((near, far), dim=2)


def centerness_targets(points: Tensor, boxes: Tensor) -> Tensor:
    """sqrt(min(l, r)/max(l, r) · min(t, b)/max(t, b)) inside the box, else 0 (Eq. 4–5): B×N."""
    sides = side_distances(points, boxes)
    inside = sides.amin(dim=2) > 0
    near, far = sides.clamp(min=1e-6).chunk(2, dim=2)
    balance = (torch.minimum(near, far) / torch.maximum(near, far)).prod(dim=2)
    return torch.where(inside, balance.sqrt(), balance.new_zeros(()))


def focal(probability: Tensor, positive: Tensor) -> Tensor:
    """RetinaNet's, element by element: -α_t·(1 - p_t)^γ·ln p_t."""
    p = torch.where(positive, probability, 1 - probability)
    alpha = torch.where(positive, p.new_tensor(FOCAL_ALPHA), p.new_tensor(1 - FOCAL_ALPHA))
    return -alpha * (1 - p) ** FOCAL_GAMMA * p.clamp(min=torch.finfo(p.dtype).tiny).log()


def distance_iou(predicted: Tensor, true: Tensor, smooth: float = 0.0) -> Tensor:
    """Intersection over union of two boxes given as distances …×4 from one point inside both.

    smooth is added to intersection and union (NanoTrack: 1).
    """
    least = torch.minimum(predicted, true)
    intersection = (least[..., 0] + least[..., 2]) * (least[..., 1] + least[..., 3])
    areas = [(d[..., 0] + d[..., 2]) * (d[..., 1] + d[..., 3]) for d in (predicted, true)]
    return (intersection + smooth) / (areas[0] + areas[1] - intersection + smooth)


def departure(logits: Tensor, distances: Tensor, logits_before: Tensor, distances_before: Tensor) -> Tensor:
    """How far maps have gone from those of the network before, mean over samples.

    KL of the scores, mean over cells, plus the difference of the log distances where the network before saw
    the target. logits B×2×n×n, distances B×4×n×n.
    """
    log, before = logits.log_softmax(dim=1), logits_before.log_softmax(dim=1)
    divergence = (before.exp() * (before - log)).sum(dim=1).mean(dim=(1, 2))
    seen = before[:, 1].exp()
    apart = (distances.log() - distances_before.log()).abs().mean(dim=1)
    return (divergence + (seen * apart).sum(dim=(1, 2)) / seen.sum(dim=(1, 2)).clamp(min=1e-6)).mean()


def contrastive(exemplar: Tensor, vectors: Tensor, same: Tensor, margin: float = MARGIN) -> Tensor:
    """Mean of d² for vectors that should be near the exemplar's and max(0, margin - d)² for the others.

    exemplar: C; vectors: N×C; same: N bool; d is the Euclidean distance.
    """
    square = (vectors - exemplar).square().sum(dim=1)
    apart = (margin - square.clamp(min=1e-12).sqrt()).clamp(min=0).square()
    return torch.where(same, square, apart).mean()


def nms(boxes: Tensor, scores: Tensor, limit: float) -> Tensor:
    """Indices of the boxes N×4 that stay, best first: none overlaps a better one by more than `limit`."""
    order = scores.argsort(descending=True)
    overlap, _ = box_iou(boxes[order][:, None], boxes[order][None])
    stays = torch.ones(len(order), dtype=torch.bool, device=boxes.device)
    for i in range(len(order)):
        if stays[i]:
            stays[i + 1 :] &= overlap[i, i + 1 :] <= limit
    return order[stays]


def roi_align(features: Tensor, boxes: Tensor, side: int, stride: int) -> Tensor:
    """Features C×n×n of one sample, averaged in side×side bins of boxes N×4: N×C×side×side.

    As RoIAlign's aligned form with 2×2 samples a bin: cell i stands for pixels around stride·(i + ½).
    """
    fraction = (torch.arange(2 * side, device=boxes.device, dtype=boxes.dtype) + 0.5) / (2 * side)
    x = boxes[:, :1] + (boxes[:, 2:3] - boxes[:, :1]) * fraction
    y = boxes[:, 1:2] + (boxes[:, 3:4] - boxes[:, 1:2]) * fraction
    count, n = len(boxes), features.shape[-1]
    grid = torch.stack(
        (x[:, None, :].expand(-1, 2 * side, -1), y[:, :, None].expand(-1, -1, 2 * side)), dim=-1
    )
    grid = grid * (2 / (stride * n)) - 1
    sampled = functional.grid_sample(
        features[None].expand(count, -1, -1, -1), grid, padding_mode="border", align_corners=False
    )
    return functional.avg_pool2d(sampled, 2)


def ellipse_labels(points: Tensor, boxes: Tensor) -> Tensor:
    """NanoTrack's cells: 1 inside the ellipse of half-axes w/4, h/4, 0 outside that of w/2, h/2, -1 between.

    points: N×2; boxes: B×4 → B×N int64.
    """
    centre, size = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    offset = (points - centre[:, None]) / size[:, None].clamp(min=1e-6)
    radius = offset.square().sum(dim=2)  # in units of w, h: 1/16 on the inner ellipse, 1/4 on the outer
    labels = torch.full_like(radius, -1, dtype=torch.int64)
    labels[radius > 1 / 4] = 0
    labels[radius < 1 / 16] = 1
    return labels


def draw_cells(labels: Tensor, present: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """The labels B×N that count in a step, all others -1.

    A pair with the target: up to 16 positive and 48 negative cells; one without (`present` B bool): up to 16
    of the cells in the small ellipse of what would be its box, as negatives.
    """
    drawn = torch.full_like(labels, -1)
    for row, own in enumerate(labels):
        inside = (own == 1).nonzero()[:, 0]
        if present[row]:
            outside = (own == 0).nonzero()[:, 0]
            drawn[row, _some(inside, POSITIVES, generator)] = 1
            drawn[row, _some(outside, NEGATIVES, generator)] = 0
        else:
            drawn[row, _some(inside, OUTSIDERS, generator)] = 0
    return drawn


def balanced_nll(logits: Tensor, labels: Tensor) -> Tensor:
    """½ mean NLL of positive cells + ½ of negative ones. logits: B×2×N; labels: B×N, -1 ignored."""
    log = functional.log_softmax(logits, dim=1)
    return 0.5 * (mean_of(-log[:, 1], labels == 1) + mean_of(-log[:, 0], labels == 0))


def mean_of(values: Tensor, chosen: Tensor) -> Tensor:
    """Mean of the chosen values; 0 of none."""
    return torch.where(chosen, values, torch.zeros_like(values)).sum() / chosen.sum().clamp(min=1)


def _some(cells: Tensor, most: int, generator: torch.Generator | None) -> Tensor:
    return cells[torch.randperm(len(cells), generator=generator)[:most].to(cells.device)]
