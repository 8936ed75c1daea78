"""What words on the command line mean, and where results go."""

from pathlib import Path

import pytest

from jntrt.runtime.errors import UserError
from jntrt.runtime.trtrun.several import jobs, meant


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.mp4", "b.mp4", "seq/10.png", "seq/9.png", "other/a.mp4"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).touch()


def test_an_unquoted_glob_of_images_is_one_source() -> None:
    assert meant(("seq/10.png", "seq/9.png")) == [(Path("seq/9.png"), Path("seq/10.png"))]
    assert meant(("seq/9.png",)) == ["seq/9.png"]


def test_videos_are_one_after_another_quoted_or_not() -> None:
    assert meant(("a.mp4", "b.mp4")) == ["a.mp4", "b.mp4"]
    assert meant(("*.mp4",)) == ["a.mp4", "b.mp4"]
    assert meant(("seq/*.png",)) == ["seq/*.png"]  # which the source itself lists
    assert meant(("none*.mp4", "0", "rtsp://x/?*", "-")) == ["none*.mp4", "0", "rtsp://x/?*", "-"]
    Path("[1].mp4").touch()
    assert meant(("[1].mp4",)) == ["[1].mp4"]


def test_results_are_named_after_their_sources() -> None:
    found = jobs(("a.mp4", "seq", "rtsp://u@h/live?x=1"), None, Path(".mkv"), Path("out"), "coco")
    assert [job.out for job in found] == [Path(f"out/{name}.json") for name in ("a", "seq", "live_x_1")]
    assert [job.save for job in found] == [Path(f"out/{name}.mkv") for name in ("a", "seq", "live_x_1")]
    assert Path("out").is_dir()
    (images,) = jobs(("seq/9.png", "seq/10.png"), None, None, Path("out"), "txt")
    assert (images.out, images.save) == (Path("out/seq.txt"), None)


@pytest.mark.parametrize(
    ("words", "out", "save", "out_dir", "message"),
    [
        (("a.mp4", "b.mp4"), "x.txt", None, None, "give --out-dir"),
        (("a.mp4", "b.mp4"), None, "x.mp4", None, "give --out-dir"),
        (("a.mp4",), "x.txt", None, "out", "give one of them"),
        (("a.mp4",), None, "x.mp4", "out", "it is a suffix"),
        (("a.mp4", "other/a.mp4"), None, None, "out", "two sources of that name"),
    ],
)
def test_results_that_would_meet_are_refused(
    words: tuple[str, ...], out: str | None, save: str | None, out_dir: str | None, message: str
) -> None:
    paths = [Path(text) if text else None for text in (out, save, out_dir)]
    with pytest.raises(UserError, match=message):
        jobs(words, *paths, "txt")
    assert not Path("out").exists()
