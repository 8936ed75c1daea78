"""COCO's annotated photographs as one-frame sequences: both crops of a pair come from the same picture."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from jntrt.bench.sequences.clips import Clip
from jntrt.runtime.errors import UserError

MIN_SIDE = 20.0  # pixels of a box's sides; crowds and specks make no target


def load_coco(folder: Path, split: str = "train2017") -> list[Clip]:
    """One two-frame sequence (twice the same picture) per annotated object of `folder`.

    Layout: annotations/instances_SPLIT.json and SPLIT/*.jpg, or images/SPLIT/*.jpg. UserError for any other.
    """
    path = folder / "annotations" / f"instances_{split}.json"
    if not path.is_file():
        raise UserError(f"{path}: no such file; expected COCO's layout")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        files = {int(image["id"]): str(image["file_name"]) for image in content["images"]}
        objects = [
            (int(a["id"]), int(a["image_id"]), [float(v) for v in a["bbox"]])
            for a in content["annotations"]
            if not a.get("iscrowd")
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not COCO's instances: {error}") from None
    images = folder / split if (folder / split).is_dir() else folder / "images" / split
    sequences = []
    for number, image, box in objects:
        if len(box) != 4 or min(box[2:]) < MIN_SIDE or image not in files:
            continue
        picture = images / Path(files[image]).name
        boxes = np.array([box, box])
        sequences.append(Clip(f"coco-{number}", images, boxes, np.array([True, True]), (picture, picture)))
    if not sequences:
        raise UserError(f"{path}: no object with sides of at least {MIN_SIDE:g} px")
    return sequences


def is_coco(folder: Path) -> bool:
    """Whether `folder` has COCO's annotations of the training split."""
    return (folder / "annotations" / "instances_train2017.json").is_file()
