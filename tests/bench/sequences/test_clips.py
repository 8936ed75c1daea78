"""Every layout that the reader knows, in tiny folders made here."""

from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from jntrt.bench.sequences.clips import load_clips
from jntrt.runtime.errors import UserError

BOXES = np.array([[10, 8, 12, 9], [11, 8, 12, 9], [12.5, 9, 12, 9], [14, 9.25, 12, 9]])


def write_images(folder: Path, count: int = 4, first: int = 1, digits: int = 8) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        image = np.zeros((40, 64, 3), np.uint8)
        image[..., 0] = 200  # blue in OpenCV's order
        image[..., 1] = 10 * number % 250
        cv2.imwrite(str(folder / f"{number + first:0{digits}d}.jpg"), image)


def write_boxes(path: Path, separator: str = ",", boxes: np.ndarray = BOXES) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(separator.join(f"{value:g}" for value in row) + "\n" for row in boxes))


def write_video(path: Path, count: int = 4) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "10"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(count):
            image = np.full((48, 64, 3), (200, 30, 20 * number), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


def test_got10k(tmp_path: Path) -> None:
    write_images(tmp_path / "val" / "A")
    write_boxes(tmp_path / "val" / "A" / "groundtruth.txt")
    (tmp_path / "val" / "A" / "absence.label").write_text("0\n0\n1\n0\n")
    (tmp_path / "val" / "A" / "cover.label").write_text("8\n0\n0\n3\n")
    (sequence,) = load_clips(tmp_path)
    assert sequence.name == "A"
    assert len(sequence) == 4
    assert sequence.absence_annotated
    np.testing.assert_array_equal(sequence.absent, [False, False, True, False])
    np.testing.assert_array_equal(sequence.visible, [True, False, False, True])
    np.testing.assert_array_equal(sequence.boxes[3], BOXES[3])
    frames = list(sequence.frames())
    assert frames[0].shape == (40, 64, 3)
    assert frames[0].dtype == np.uint8
    assert frames[0][0, 0, 2] > 150 > frames[0][0, 0, 0]  # RGB
    np.testing.assert_array_equal(sequence.frame(2), frames[2])


def test_nan_rows_are_absence(tmp_path: Path) -> None:
    boxes = BOXES.copy()
    boxes[1] = np.nan
    write_images(tmp_path)
    write_boxes(tmp_path / "groundtruth.txt", boxes=boxes)
    (sequence,) = load_clips(tmp_path)
    assert sequence.absence_annotated
    np.testing.assert_array_equal(sequence.absent, [False, True, False, False])


@pytest.mark.parametrize("separator", [",", "\t", " ", ", "])
def test_otb_separators(tmp_path: Path, separator: str) -> None:
    write_images(tmp_path / "Dog" / "img", digits=4)
    write_boxes(tmp_path / "Dog" / "groundtruth_rect.txt", separator)
    (sequence,) = load_clips(tmp_path / "Dog")
    assert sequence.name == "Dog"
    assert not sequence.absence_annotated
    np.testing.assert_array_equal(sequence.boxes, BOXES)


def test_otb_targets_and_frame_ranges(tmp_path: Path) -> None:
    write_images(tmp_path / "Jogging" / "img", digits=4)
    for target in (1, 2):
        write_boxes(tmp_path / "Jogging" / f"groundtruth_rect.{target}.txt", boxes=BOXES + target)
    write_images(tmp_path / "David" / "img", count=304, digits=4)
    write_boxes(tmp_path / "David" / "groundtruth_rect.txt", "\t")
    david, first, second = load_clips(tmp_path)
    assert [first.name, second.name] == ["Jogging.1", "Jogging.2"]
    assert second.boxes[0, 0] == 12
    assert david.images[0].name == "0300.jpg"
    assert len(david.images) == 4


def test_lasot(tmp_path: Path) -> None:
    folder = tmp_path / "cat" / "cat-1"
    write_images(folder / "img")
    write_boxes(folder / "groundtruth.txt")
    (folder / "full_occlusion.txt").write_text("0,0,1,0\n")
    (folder / "out_of_view.txt").write_text("0,1,0,0\n")
    (sequence,) = load_clips(tmp_path)
    assert sequence.name == "cat-1"
    np.testing.assert_array_equal(sequence.absent, [False, True, True, False])


def test_trackingnet(tmp_path: Path) -> None:
    for number in range(4):
        write_images(tmp_path / "frames" / "x_0", count=number + 1, first=0, digits=1)
    write_boxes(tmp_path / "anno" / "x_0.txt")
    (sequence,) = load_clips(tmp_path)
    assert (sequence.name, len(sequence.images)) == ("x_0", 4)


def test_video_and_list(tmp_path: Path) -> None:
    write_video(tmp_path / "fly.mp4")
    rows = "".join(f"{n},{x},{y},{w},{h}\n" for n, (x, y, w, h) in enumerate(BOXES[:3]))
    (tmp_path / "fly.csv").write_text("frame,x,y,w,h\n" + rows + "3,,,,\n")
    (tmp_path / "list.txt").write_text("# ours\nfly.mp4\n")
    (sequence,) = load_clips(tmp_path / "list.txt")
    assert sequence.fps == 25
    np.testing.assert_array_equal(sequence.absent, [False, False, False, True])
    frames = list(sequence.frames())
    assert len(frames) == 4
    assert frames[0][10, 10, 0] > 150 > frames[0][10, 10, 2]
    assert [found.name for found in load_clips([tmp_path / "fly.csv"])] == ["fly"]


def test_mistakes_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        load_clips(tmp_path / "nothing")
    (tmp_path / "list.txt").write_text("list.txt\n")
    with pytest.raises(UserError, match=r"lists list\.txt, which is no sequence"):
        load_clips(tmp_path / "list.txt")
    with pytest.raises(UserError, match="no annotated sequence"):
        load_clips(tmp_path)
    write_images(tmp_path / "A", count=3)
    write_boxes(tmp_path / "A" / "groundtruth.txt")
    with pytest.raises(UserError, match="4 boxes for 3 frames"):
        load_clips(tmp_path)
    (tmp_path / "A" / "groundtruth.txt").write_text("1,2,3\n")
    with pytest.raises(UserError, match="line 1 has 3 numbers"):
        load_clips(tmp_path)
    (tmp_path / "A" / "groundtruth.txt").write_text("1,2,3,inf\n" * 3)
    with pytest.raises(UserError, match="infinite"):
        load_clips(tmp_path)
    (tmp_path / "A" / "groundtruth.txt").write_text("1,2,3,four\n" * 3)
    with pytest.raises(UserError, match="not a number"):
        load_clips(tmp_path)


def test_same_name_twice(tmp_path: Path) -> None:
    for parent in ("a", "b"):
        write_images(tmp_path / parent / "S")
        write_boxes(tmp_path / parent / "S" / "groundtruth.txt")
    with pytest.raises(UserError, match="two sequences are called S"):
        load_clips(tmp_path)


def test_a_folder_named_by_dots_has_its_own_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_images(tmp_path / "dog" / "img")
    write_boxes(tmp_path / "dog" / "groundtruth.txt")
    monkeypatch.chdir(tmp_path / "dog")
    assert load_clips(".")[0].name == "dog"
    monkeypatch.chdir(tmp_path / "dog" / "img")
    assert load_clips("..")[0].name == "dog"


def test_an_image_larger_than_opencv_allows(tmp_path: Path) -> None:
    write_images(tmp_path, count=1)
    write_boxes(tmp_path / "groundtruth.txt", boxes=BOXES[:1])
    (tmp_path / "00000001.jpg").write_bytes(b"P6 100000 100000 255\n")
    with pytest.raises(UserError, match=r"00000001\.jpg: not an image that can be decoded"):
        list(load_clips(tmp_path)[0].frames())


def test_a_video_shorter_than_its_annotation(tmp_path: Path) -> None:
    write_video(tmp_path / "fly.mp4", count=2)
    rows = "".join(f"{n},1,2,3,4\n" for n in range(4))
    (tmp_path / "fly.csv").write_text("frame,x,y,w,h\n" + rows)
    (sequence,) = load_clips(tmp_path)
    with pytest.raises(UserError, match="ends after 2 frames"):
        list(sequence.frames())
