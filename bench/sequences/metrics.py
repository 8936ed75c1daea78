"""Accuracy of a tracker by the rules of the official toolkits.

| measure | rule | frames that count |
|---|---|---|
| AO, SR0.5, SR0.75 | GOT-10k: mean overlap, share of frames with overlap > 0.5 or 0.75; boxes clipped to the image | visible, without frame 0 |
| AUC | OTB: mean over 21 thresholds 0 … 1 of the share of frames with overlap > threshold, then mean over clips | visible, frame 0 included |
| P20 | OTB: share of frames with a centre error of at most 20 px, mean over clips | as AUC |
| Pn | LaSOT: the same with the error divided by the target's width and height, at most 0.2 | as AUC |
| AUROC | area under the ROC curve of the presence score, present against absent, all clips pooled | without frame 0 |

The GOT-10k toolkit pools the frames of all sequences; papers on small sets often give the mean over clips. Both are
computed and never called by the same name.
"""  # noqa: E501

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
SUCCESS_THRESHOLDS: Floats = np.linspace(0, 1, 21)
NORMALISED_THRESHOLD = 0.2


@dataclass(frozen=True, eq=False)
class ClipMeasures:
    """What one tracker did on one clip.

    overlaps: of the visible frames without frame 0, boxes clipped to the image (GOT-10k).
    success: 21 shares of frames with overlap above `SUCCESS_THRESHOLDS` (OTB). precision: share within 20 px.
    normalised_precision: share within 0.2 target sizes. presence, absent: score and truth of each frame but
        frame 0, empty where the clip does not annotate absence or the tracker gives no score.
    """

    name: str
    overlaps: Floats
    success: Floats
    precision: float
    normalised_precision: float
    presence: Floats
    absent: NDArray[np.bool_]


@dataclass(frozen=True)
class Measures:
    """One tracker on all clips; `_frames`: all frames pooled (GOT-10k's rule), `_clips`: mean over clips.

    presence_auroc is None where no absence was annotated, or the tracker gives no score.
    """

    clips: int
    frames: int
    ao_frames: float
    ao_clips: float
    sr50_frames: float
    sr50_clips: float
    sr75_frames: float
    sr75_clips: float
    auc_clips: float
    precision20_clips: float
    normalised_precision_clips: float
    presence_auroc: float | None


def overlap(boxes: Floats, truth: Floats) -> Floats:
    """Intersection over union of N×4 boxes (x, y, w, h) with N×4 others, row by row; N values in 0 … 1."""
    low = np.maximum(boxes[:, :2], truth[:, :2])
    high = np.minimum(boxes[:, :2] + boxes[:, 2:], truth[:, :2] + truth[:, 2:])
    common = np.prod(np.maximum(high - low, 0), axis=1)
    union = np.prod(boxes[:, 2:], axis=1) + np.prod(truth[:, 2:], axis=1) - common
    result: Floats = np.clip(common / (union + np.finfo(float).eps), 0.0, 1.0)
    return result


def clip_to_image(boxes: Floats, width: int, height: int) -> Floats:
    """Boxes limited to the image the way the GOT-10k toolkit does it.

    A corner left of the image moves to its edge and the width stays as it is: the far edge moves along. That
    is not the intersection with the image, but published figures are made with it.
    """
    bound = np.array([width, height], dtype=np.float64)
    corner = np.clip(boxes[:, :2], 0, bound)
    return np.hstack([corner, np.clip(boxes[:, 2:], 0, bound - corner)])


def center_error(boxes: Floats, truth: Floats) -> Floats:
    """Distance of the centres in pixels, N values. (OTB's centre x + (w - 1) / 2 makes no difference.)"""
    offset = boxes[:, :2] - truth[:, :2] + (boxes[:, 2:] - truth[:, 2:]) / 2
    result: Floats = np.hypot(offset[:, 0], offset[:, 1])
    return result


def normalised_error(boxes: Floats, truth: Floats) -> Floats:
    """Distance of the centres in units of the target's width and height (TrackingNet), N values."""
    offset = (boxes[:, :2] - truth[:, :2] + (boxes[:, 2:] - truth[:, 2:]) / 2) / truth[:, 2:]
    result: Floats = np.hypot(offset[:, 0], offset[:, 1])
    return result


def measure_clip(
    name: str,
    boxes: Floats,
    truth: Floats,
    visible: NDArray[np.bool_],
    size: tuple[int, int],
    scores: Floats | None = None,
    absent: NDArray[np.bool_] | None = None,
) -> ClipMeasures:
    """All measures of one clip.

    boxes, truth: N×4, x, y, w, h; row 0 is the given box. visible: N. size: width, height of the frames.
    scores: N presence scores, or None; absent: N where absence is annotated, else None.
    """
    later = visible.copy()
    later[0] = False
    bounded = overlap(clip_to_image(boxes[later], *size), clip_to_image(truth[later], *size))
    with_first = boxes.copy()
    with_first[0] = truth[0]
    tracked, target = with_first[visible], truth[visible]
    success = (overlap(tracked, target)[:, None] > SUCCESS_THRESHOLDS).mean(axis=0)
    rated = scores is not None and absent is not None
    return ClipMeasures(
        name,
        bounded,
        success,
        float((center_error(tracked, target) <= 20).mean()),
        float((normalised_error(tracked, target) <= NORMALISED_THRESHOLD).mean()),
        scores[1:] if scores is not None and rated else np.empty(0),
        absent[1:] if absent is not None and rated else np.empty(0, dtype=np.bool_),
    )


def summarize(clips: Sequence[ClipMeasures]) -> Measures:
    """The measures of one tracker over all clips. A clip of one visible frame has no overlap to count."""
    counted = [clip for clip in clips if len(clip.overlaps)]
    per_clip = [clip.overlaps for clip in counted] or [np.full(1, np.nan)]

    def both(threshold: float | None = None) -> tuple[float, float]:
        values = [clip if threshold is None else clip > threshold for clip in per_clip]
        return float(np.mean(np.concatenate(values))), float(np.mean([np.mean(clip) for clip in values]))

    ao, sr50, sr75 = both(), both(0.5), both(0.75)
    return Measures(
        clips=len(clips),
        frames=int(sum(len(clip.overlaps) for clip in clips)),
        ao_frames=ao[0],
        ao_clips=ao[1],
        sr50_frames=sr50[0],
        sr50_clips=sr50[1],
        sr75_frames=sr75[0],
        sr75_clips=sr75[1],
        auc_clips=float(np.mean([clip.success.mean() for clip in clips])),
        precision20_clips=float(np.mean([clip.precision for clip in clips])),
        normalised_precision_clips=float(np.mean([clip.normalised_precision for clip in clips])),
        presence_auroc=auroc(
            np.concatenate([clip.presence for clip in clips]),
            ~np.concatenate([clip.absent for clip in clips]),
        ),
    )


def auroc(scores: Floats, positive: NDArray[np.bool_]) -> float | None:
    """Area under the ROC curve: the chance that a positive scores above a negative, ties counting half.

    scores, positive: N. None where one of the two classes is missing or a score is not finite.
    """
    n_positive, n_negative = int(positive.sum()), int((~positive).sum())
    if not n_positive or not n_negative or not np.isfinite(scores).all():
        return None
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return float((ranks[positive].sum() - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative))


def paired_difference(
    ours: Floats, theirs: Floats, *, samples: int = 10_000, level: float = 0.95, seed: int = 0
) -> tuple[float, float, float]:
    """Mean of ours - theirs and its bootstrap interval (percentile method), clips drawn with replacement.

    ours, theirs: one value per clip, in the same order. Returns difference, lower and upper end.
    """
    differences = ours - theirs
    draws = np.random.default_rng(seed).integers(0, len(differences), (samples, len(differences)))
    means = differences[draws].mean(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(differences.mean()), float(low), float(high)
