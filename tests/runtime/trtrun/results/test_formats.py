"""Each format of the boxes is read back by its own field's library."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from jntrt.runtime.errors import UserError
from jntrt.runtime.trtrun.first_box import first_boxes
from jntrt.runtime.trtrun.results.formats import LinesFile, mot_lines
from jntrt.runtime.trtrun.results.outputs import Outputs
from jntrt.runtime.trtrun.results.tracked import Tracked

IMAGE = np.zeros((90, 120, 3), np.uint8)
FRAMES = [0, 1, 3]  # 2 is missing in the source
BOXES = np.array([[10.125, 20, 30, 40], [50, 5.5, 20, 10]])


def tracked(frame: int) -> Tracked:
    scores: tuple[float | None, ...] = (None, None) if frame == 0 else (0.75, 0.125)
    return Tracked(frame, BOXES + frame, scores, (False, frame > 0), 1.0)


def written(path: Path, kind: str, frames: Sequence[int] = FRAMES) -> Path:
    outputs = Outputs(path, None, json=False, targets=2, overwrite=False, kind=kind)
    with outputs.open(None, "clip.mp4"):
        for frame in frames:
            outputs.write(IMAGE, tracked(frame), None)
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    return path


def test_mot_is_what_motmetrics_reads(tmp_path: Path) -> None:
    motmetrics = pytest.importorskip("motmetrics")
    path = written(tmp_path / "boxes.txt", "mot")
    table = motmetrics.io.loadtxt(path, fmt="mot15-2D")
    assert table.index.tolist() == [(frame + 1, target) for frame in FRAMES for target in (1, 2)]
    # It counts pixels from 0, MOTChallenge from 1.
    corners = np.add(table[["X", "Y", "Width", "Height"]].to_numpy(), [1, 1, 0, 0])
    assert np.abs(corners - np.concatenate([BOXES + frame for frame in FRAMES])).max() <= 0.0005
    assert table["Confidence"].tolist() == [1, 1, 0.75, 0.125, 0.75, 0.125]


def test_coco_is_what_pycocotools_reads(tmp_path: Path) -> None:
    coco = pytest.importorskip("pycocotools.coco").COCO(written(tmp_path / "boxes.json", "coco"))
    assert coco.getImgIds() == [1, 2, 4]
    assert coco.loadImgs(4)[0] == {"id": 4, "file_name": "clip.mp4#3", "width": 120, "height": 90}
    found = coco.loadAnns(coco.getAnnIds(imgIds=[4], catIds=coco.getCatIds(catNms=["target"])))
    assert [one["bbox"] for one in found] == (BOXES + 3).tolist()
    assert [(one["track_id"], one["score"], one["lost"]) for one in found] == [
        (1, 0.75, False),
        (2, 0.125, True),
    ]


@pytest.mark.parametrize("kind", ["mot", "coco", "csv"])
def test_each_gives_the_first_boxes_of_another_run(tmp_path: Path, kind: str) -> None:
    """Of all targets."""
    assert first_boxes(written(tmp_path / "boxes", kind)).tolist() == BOXES.tolist()


def test_csv(tmp_path: Path) -> None:
    with written(tmp_path / "boxes.csv", "csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["frame"], row["target"]) for row in rows] == [
        (str(frame), target) for frame in FRAMES for target in "12"
    ]
    assert rows[0] == {
        **{"frame": "0", "target": "1", "x": "10.125", "y": "20.000", "w": "30.000", "h": "40.000"},
        **{"score": "", "lost": "0"},
    }
    assert (rows[3]["score"], rows[3]["lost"]) == ("0.125000", "1")


@pytest.mark.parametrize("kind", ["mot", "csv", "coco"])
def test_without_a_frame_there_is_no_file(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "boxes.txt"
    with Outputs(path, None, json=False, targets=1, overwrite=False, kind=kind).open(None):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    file = LinesFile(tmp_path / "boxes.txt", mot_lines, overwrite=True)
    file._file = Path("/dev/full").open("w", buffering=1)  # noqa: SIM115  # the LinesFile closes it
    with pytest.raises(UserError, match=r"boxes\.txt: cannot be written any further \(No space left"), file:
        file.write(tracked(0), (120, 90))
