"""Result files of an accuracy run, in the layout that the GOT-10k toolkit reads.

    OUT/GOT-10k/TRACKER/SEQUENCE/SEQUENCE_001.txt     x,y,w,h per frame, frame 0 included, `%.3f`
    OUT/GOT-10k/TRACKER/SEQUENCE/SEQUENCE_time.txt    seconds per frame
    OUT/GOT-10k/TRACKER/SEQUENCE/SEQUENCE_score.txt   presence score per frame (ours; nan for frame 0)
    OUT/GOT-10k/TRACKER/SEQUENCE/done.json            what made them; written last

Each file is moved into place whole. Without a matching `done.json` the sequence is run again: after a stop,
with another bundle of the same name, and where the annotation or the frames changed.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jntrt.bench.sequences.clips import Clip
from jntrt.runtime.command.files import replacing
from jntrt.runtime.errors import UserError

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Run:
    """One tracker on one sequence of N frames.

    boxes: N×4, row 0 the given box. scores: N presence scores, NaN in frame 0 and where a tracker has none.
    seconds: N, init in row 0; decoding is not in them. size: width, height of the frames. shared: others ran
    on the machine beside it, so that `seconds` are no figure.
    """

    boxes: Floats
    scores: Floats
    seconds: Floats
    size: tuple[int, int]
    shared: bool = False


def save_run(out: Path, tracker: str, identity: Mapping[str, Any], sequence: Clip, run: Run) -> None:
    """Write the four files of one run below `out`. UserError where the folder cannot be written."""
    folder = _folder(out, tracker, sequence)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "done.json").unlink(missing_ok=True)
        _write(folder / f"{sequence.name}_001.txt", _lines(run.boxes, "%.3f"))
        _write(folder / f"{sequence.name}_time.txt", _lines(run.seconds[:, None], "%.8f"))
        _write(folder / f"{sequence.name}_score.txt", _lines(run.scores[:, None], "%.6f"))
        marker = {
            "tracker": identity,
            "sequence": _digest(sequence),
            "size": list(run.size),
            "shared": run.shared,
        }
        _write(folder / "done.json", json.dumps(marker, indent=1) + "\n")
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be written ({error.strerror}); name another folder by --out"
        ) from None


def load_run(out: Path, tracker: str, identity: Mapping[str, Any], sequence: Clip) -> Run | None:
    """The stored run when the same tracker made it on the same sequence, else None."""
    folder = _folder(out, tracker, sequence)
    try:
        marker = json.loads((folder / "done.json").read_text())
        if marker["tracker"] != dict(identity) or marker["sequence"] != _digest(sequence):
            return None
        width, height = marker["size"]
        shared = bool(marker.get("shared", False))
        boxes = np.loadtxt(folder / f"{sequence.name}_001.txt", delimiter=",", ndmin=2)
        seconds = np.loadtxt(folder / f"{sequence.name}_time.txt", ndmin=1)
        scores = np.loadtxt(folder / f"{sequence.name}_score.txt", ndmin=1)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    count = len(sequence)
    if boxes.shape != (count, 4) or seconds.shape != (count,) or scores.shape != (count,):
        return None
    return Run(boxes, scores, seconds, (int(width), int(height)), shared)


def _folder(out: Path, tracker: str, sequence: Clip) -> Path:
    return out / "GOT-10k" / tracker / sequence.name


def _lines(values: Floats, form: str) -> str:
    return "".join(",".join(form % value for value in row) + "\n" for row in values)


def _digest(sequence: Clip) -> str:
    """Of the annotation and of the names and sizes of the frame files (hashing all would take minutes)."""
    digest = hashlib.sha256(sequence.boxes.tobytes() + sequence.visible.tobytes())
    for file in sequence.images or (sequence.source,):
        digest.update(f"{file.name} {file.stat().st_size}\n".encode())
    return digest.hexdigest()


def _write(path: Path, text: str) -> None:
    with replacing(path) as stream:
        stream.write(text)
