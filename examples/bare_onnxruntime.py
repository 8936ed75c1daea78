"""Track with an OSTrack or JN bundle and nothing else: python bare_onnxruntime.py BUNDLE FRAMES.npy x,y,w,h
FRAMES.npy: uint8 N×H×W×3 RGB. Prints x,y,w,h,score per frame after the first: the boxes of jntrt's Tracker.
"""

import json
import os
import sys
from pathlib import Path

import numpy as np

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # from 1.31 on it reports its sessions to a collector
import onnxruntime as ort


def axis(corner, side, size, length, clamp):
    """Of each output pixel: two positions in the frame and their 11-bit weights, as OpenCV's INTER_LINEAR."""
    at = ((np.arange(size) + 0.5) * (1 / (size / side)) - 0.5).astype(np.float32)
    first, part = np.floor(at).astype(int), at - np.floor(at)
    part[clamp & ((first < 0) | (first >= side - 1))] = 0
    taps = corner + np.clip([first, first + 1], 0, side - 1)
    weights = np.rint(np.float32(2048) * np.stack([1 - part, part])).astype(int)
    inside = (taps >= 0) & (taps < length - 1)  # the frame's last row and column count as outside
    return list(zip(taps.clip(0, length - 1), weights * inside, strict=True))


def crop(frame, box, factor, size):
    """The square around the box as 1×size×size×3, black outside the frame; and its side in pixels."""
    side = int(np.ceil(np.sqrt(box[2] * box[3]) * factor))
    x, y = (round(box[i] + 0.5 * box[i + 2] - side * 0.5) for i in (0, 1))
    total = 2
    for row, down in axis(y, side, size, frame.shape[0], False):
        columns = axis(x, side, size, frame.shape[1], True)
        sums = sum(frame[row][:, column] * across[:, None] for column, across in columns)
        total = total + ((down[:, None, None] * (sums >> 4)) >> 16)
    return (total >> 2).astype(np.uint8)[None], side


def track(folder, frames, box):
    bundle = json.loads((folder / "bundle.json").read_text())
    files, z, x = bundle["precisions"]["fp32"], bundle["template"], bundle["search"]
    template, search = (ort.InferenceSession(folder / files[name]["file"]) for name in ("template", "track"))
    picture, side = crop(frames[0], box, z["factor"], z["size"])
    inputs, half, limit = {"template": picture}, -0.5 / z["size"], np.array(frames.shape[2:0:-1])
    if len(template.get_inputs()) > 1:  # JN's target token, in the paper's format
        inputs["target_box"] = np.float32([[half, half, box[2] / side, box[3] / side]])
    memory = dict(zip([o.name for o in template.get_outputs()], template.run(None, inputs), strict=True))
    for frame in frames[1:]:
        picture, side = crop(frame, box, x["factor"], x["size"])
        (found,), (score,) = search.run(["box", "score"], {"search": picture, **memory})
        size = found[2:].astype(float) * side
        start = found[:2] * float(side) + box[:2] + 0.5 * box[2:] - 0.5 * side - 0.5 * size
        start, end = start.clip(0, limit - 10), (start + size).clip(10, limit)
        box = np.concatenate([start, (end - start).clip(10)])
        print(*box, score, sep=",")


if __name__ == "__main__":
    folder, frames, first_box = sys.argv[1:] if len(sys.argv) == 4 else sys.exit(__doc__)
    track(Path(folder), np.load(frames), np.array(first_box.split(","), float))
