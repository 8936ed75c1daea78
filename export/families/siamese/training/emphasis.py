"""HNE's emphasis on hard negatives: boxes of the map that look like the target are told from it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from jntrt.export.families.iou import box_iou
from jntrt.export.families.siamese.plain.decode import context_size
from jntrt.export.families.siamese.training import losses

ROI_SIDE = 5
EACH = 5  # positives, and hard negatives
CANDIDATES = 100  # best boxes that NMS looks at
OVERLAP = 0.7
SURELY, HARDLY = 0.8, 0.3  # IoU above which a box is the target, below which it is another thing
SHAKE = 0.05  # of a true box's sides: how far its stand-ins are shifted (IoU stays above 0.8)


class Emphasis(nn.Module):
    """Two convolutions from a region of the features to a vector; HNE's are two necks', side by side."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3)
        self.conv2 = nn.Conv2d(width, width, 3)

    def forward(self, regions: Tensor) -> Tensor:
        """N×channels×5×5 → N×width."""
        vectors: Tensor = self.conv2(self.conv1(regions).relu())
        return vectors.flatten(1)


def emphasis_loss(
    emphasis: Emphasis,
    template: Tensor,
    search: Tensor,
    stride: int,
    found: tuple[Tensor, Tensor],
    boxes: Tensor,
    present: Tensor,
    middle: float,
) -> Tensor:
    """Mean contrastive loss of the samples with a target (`present`, B bool).

    template, search: features of both crops, B×C×n×n, a cell every `stride` pixels; found: boxes B×N×4 and
    their scores B×N. All boxes count from the search crop's centre, which is its pixel `middle`.
    """
    total = search.sum() * 0
    found_boxes, scores = (tensor.detach() for tensor in found)
    rows = present.nonzero()[:, 0].tolist()
    for row in rows:
        chosen, same = choose_regions(found_boxes[row], scores[row], boxes[row])
        regions = losses.roi_align(search[row], chosen + middle, ROI_SIDE, stride)
        own = exemplar_box(boxes[row], template.shape[-1] * stride)
        exemplar = losses.roi_align(template[row], own, ROI_SIDE, stride)
        total = total + losses.contrastive(emphasis(exemplar)[0], emphasis(regions), same)
    return total / max(len(rows), 1)


def choose_regions(found: Tensor, scores: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
    """The true box, 5 that are it and up to 5 that are not: K×4, and which are (K bool).

    found: N×4 with scores N, ranked and thinned by NMS 0.7. Shifted true boxes stand in for positives that
    are missing.
    """
    best = scores.topk(min(CANDIDATES, len(scores))).indices
    found = found[best][losses.nms(found[best], scores[best], OVERLAP)]
    overlap, _ = box_iou(found, true[None])
    positives = found[overlap > SURELY][:EACH]
    negatives = found[overlap < HARDLY][:EACH]
    missing = EACH - len(positives)
    size = (true[2:] - true[:2]).repeat(2)
    shift = (2 * torch.rand(missing, 2, device=true.device) - 1).repeat(1, 2) * SHAKE
    chosen = torch.cat((true[None], positives, true + shift * size, negatives))
    return chosen, torch.arange(len(chosen), device=true.device) <= EACH


def exemplar_box(true: Tensor, crop: float) -> Tensor:
    """Where the target lies in its template crop, 1×4: about the centre, its context the crop's side."""
    size = true[2:] - true[:2]
    size = size * (127 / context_size(size))
    centre = true.new_tensor([crop / 2 - 0.5, crop / 2 - 0.5])
    return torch.cat((centre - size / 2, centre + size / 2))[None]
