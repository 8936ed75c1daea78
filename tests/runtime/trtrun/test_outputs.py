"""Box files and annotated videos: whole or absent, and readable by others."""

import os
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from jntrt.runtime.errors import UserError
from jntrt.runtime.trtrun.outputs import BoxFile, Outputs, check_output, numbered
from jntrt.runtime.video.writer import VideoWriter


def ramp(height: int, width: int) -> np.ndarray:
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = np.linspace(0, 255, width).astype(np.uint8)
    image[..., 2] = np.linspace(0, 255, height).astype(np.uint8)[:, None]
    return image


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
@pytest.mark.parametrize("size", [(48, 64), (47, 63)])
def test_a_video_plays_in_browsers(tmp_path: Path, suffix: str, size: tuple[int, int]) -> None:
    path = tmp_path / f"out{suffix}"
    with VideoWriter(path, Fraction(30000, 1001)) as writer:
        for _ in range(7):
            writer.write(ramp(*size))
        assert not path.exists()
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert abs(float(stream.average_rate) - 29.97) < 0.05
        images = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    assert len(images) == 7
    assert images[0].shape == (48, 64, 3)
    assert np.abs(images[3][: size[0], : size[1]].astype(int) - ramp(*size)).mean() < 6
    assert list(tmp_path.iterdir()) == [path]
    if suffix == ".mp4":
        data = path.read_bytes()
        assert data.index(b"moov") < data.index(b"mdat")


def test_a_video_survives_an_error_of_the_caller(tmp_path: Path) -> None:
    with suppress(KeyboardInterrupt), VideoWriter(tmp_path / "out.mp4", None) as writer:
        writer.write(ramp(48, 64))
        raise KeyboardInterrupt
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 1


def test_an_error_of_the_encoder_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    def grow() -> None:
        with VideoWriter(tmp_path / "out.mp4", None) as writer:
            writer.write(ramp(48, 64))
            for _ in range(20):
                writer.write(ramp(48, 96))

    with pytest.raises(UserError, match=r"out\.mp4: the video cannot be written .*96×48"):
        grow()
    assert list(tmp_path.iterdir()) == []


def test_no_frame_no_file(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "out.mp4", None):
        pass
    assert list(tmp_path.iterdir()) == []


def test_boxes_are_kept_after_an_error(tmp_path: Path) -> None:
    with suppress(KeyboardInterrupt), BoxFile(tmp_path / "boxes.txt") as file:
        file.write(np.array([1, 2.5, 3.14159, -4.0]))
        raise KeyboardInterrupt
    assert (tmp_path / "boxes.txt").read_text() == "1.000,2.500,3.142,-4.000\n"
    assert len(list(tmp_path.iterdir())) == 1


def test_without_a_box_a_file_that_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / "boxes.txt").write_text("kept")
    with suppress(UserError), BoxFile(tmp_path / "boxes.txt"):
        raise UserError("the network cannot be run")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["kept"]


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    file = BoxFile(tmp_path / "boxes.txt")
    file._file = Path("/dev/full").open("w", buffering=1)  # noqa: SIM115  # the BoxFile closes it
    with pytest.raises(UserError, match=r"boxes\.txt: cannot be written any further \(No space left"), file:
        file.write(np.zeros(4))


def test_outputs_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    existing = tmp_path / "there.txt"
    existing.touch()
    check_output(existing, "--out", overwrite=True)
    for path, words in [
        (existing, "--overwrite"),
        (tmp_path, "folder"),
        (tmp_path / "no" / "boxes.txt", "does not exist"),
    ]:
        with pytest.raises(UserError, match=words):
            check_output(path, "--out", overwrite=False)
    for path in (tmp_path / "pipe", Path("/dev/null")):  # a result moved there would take its place
        if path.parent == tmp_path:
            os.mkfifo(path)
        with pytest.raises(UserError, match="no regular file"):
            check_output(path, "--out", overwrite=True)
    (tmp_path / "a").mkdir()
    same = tmp_path / "a" / ".." / "x.mp4"
    with pytest.raises(UserError, match="is the name that --out has"):
        Outputs(tmp_path / "x.mp4", same, json=False, targets=1, overwrite=True)
    with pytest.raises(UserError, match=r"\.mp4"):
        Outputs(None, tmp_path / "out.gif", json=False, targets=1, overwrite=False)


def test_several_targets_get_a_file_each() -> None:
    assert numbered(Path("a/boxes.txt"), 0, 1) == Path("a/boxes.txt")
    assert numbered(Path("a/boxes.txt"), 1, 2) == Path("a/boxes.2.txt")
    assert numbered(Path("boxes"), 0, 2) == Path("boxes.1")
