"""The plain network as a tracker: checks of a run, and the reference of the exported graphs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from jntrt.bench.sequences.clips import Clip
from jntrt.bench.sequences.metrics import auroc, overlap
from jntrt.export.families import family
from jntrt.export.families.contract import Family
from jntrt.export.families.crops import conventions_of
from jntrt.export.families.plain import PlainForm
from jntrt.runtime.crop import BLACK, border_colour
from jntrt.runtime.errors import UserError
from jntrt.runtime.geometry import Box, box_to_frame, crop_span, start_box
from jntrt.runtime.inputs import crops, state_inputs
from jntrt.train.data.scene import Image
from jntrt.train.run.config import TrainConfig
from jntrt.train.run.state import load_average

KEPT = 0.97  # of the visible frames are not to be called lost


class PlainTracker:
    """The loop of `runtime.Tracker` around a torch model in evaluation mode."""

    def __init__(self, kind: Family, model: PlainForm) -> None:
        self._kind, self._model = kind, model.eval()
        self._crops = conventions_of(kind, model.recipe)
        self._border = BLACK

    def init(self, frame: Image, box: Box) -> None:
        """Remembers the target `box` (x, y, w, h) of `frame` (H×W×3 uint8 RGB)."""
        box = start_box(box, self._crops.state)
        spec = self._crops.template
        template = crops(frame, [box], spec, border=border_colour(frame, spec))
        self._memory = {
            name: torch.from_numpy(value)[None]
            for name, value in self._kind.side_inputs(self._model.recipe, box).items()
        }
        self._memory["template"] = self._model.normalise(torch.from_numpy(template))
        self._border = border_colour(frame, self._crops.search)
        self._state = box

    @torch.inference_mode()
    def update(self, frame: Image) -> tuple[Box, float]:
        """The target's box in `frame` and the presence score."""
        spec = self._crops.search
        search = torch.from_numpy(crops(frame, [self._state], spec, border=self._border))
        inputs = {**self._memory, "search": self._model.normalise(search)}
        told = state_inputs(self._crops.state_inputs, [self._state], spec)
        inputs |= {name: torch.from_numpy(value) for name, value in told.items()}
        out = self._model.predict(inputs)
        height, width = frame.shape[:2]
        span = crop_span(self._state, spec)
        box = out["box"][0].tolist()
        self._state = box_to_frame(box, self._state, span, width, height, self._crops.state)
        return self._state, float(out["score"][0])


def track(tracker: PlainTracker, sequence: Clip) -> Iterator[tuple[Box, float]]:
    """Box and score of every frame after the first; the first frame's annotation starts the tracker."""
    frames = sequence.frames()
    x, y, w, h = (float(v) for v in sequence.boxes[0])
    tracker.init(next(frames), (x, y, w, h))
    for frame in frames:
        yield tracker.update(frame)


def measure(kind: Family, model: PlainForm, sequences: list[Clip]) -> dict[str, float]:
    """`ao`: mean over clips of the mean overlap in visible frames (the first one excluded); `auroc`: presence
    score of visible against absent frames (NaN without absence); `threshold`: as `separate` says.

    UserError where a target is not visible in its first frame: there is nothing to start from.
    """
    overlaps, seen, gone = [], [], []
    tracker = PlainTracker(kind, model)
    for sequence in sequences:
        if not sequence.visible[0]:
            raise UserError(f"{sequence.name}: no visible target in its first frame to start from")
        results = list(track(tracker, sequence))
        boxes = np.array([box for box, _ in results]).reshape(-1, 4)
        scores = np.array([score for _, score in results])
        visible, absent = sequence.visible[1:], sequence.absent[1:]
        if visible.any():
            overlaps.append(overlap(boxes[visible], sequence.boxes[1:][visible]).mean())
        seen.append(scores[visible])
        gone.append(scores[absent])
    present, missing = np.concatenate(seen), np.concatenate(gone)
    area, threshold = separate(present, missing)
    ao = float(np.mean(overlaps)) if overlaps else float("nan")
    return {"ao": ao, "auroc": area, "threshold": threshold}


def separate(present: NDArray[np.float64], missing: NDArray[np.float64]) -> tuple[float, float]:
    """Area under the ROC curve (NaN without both kinds), and the threshold that `KEPT` of `present` reach.

    Not the threshold that parts both best: an alarm while the target is in sight costs more than one that
    comes a few frames late.
    """
    threshold = float(np.quantile(present, 1 - KEPT)) if len(present) else float("nan")
    area = auroc(np.concatenate([present, missing]), np.arange(len(present) + len(missing)) < len(present))
    return float("nan") if area is None else area, threshold


def averaged_model(folder: Path) -> tuple[TrainConfig, PlainForm, int]:
    """The configuration of the run in `folder`, its finished weights as a model, and its step.

    Weights and recipe are those of that step (`Objective.finished`, `Objective.at`).
    """
    notes, average = load_average(folder)
    config = TrainConfig.from_dict(notes["config"], str(folder))
    objective = config.objective()
    model = family(config.family).plain(objective.at(notes["step"]))
    model.load_state_dict(objective.finished(average))
    return config, model, notes["step"]
