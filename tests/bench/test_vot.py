"""The VOT toolkit's tracker: objects that come in any frame, and the boxes of a tracker by itself."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from jntrt.bench import vot
from jntrt.bench.sequences.clips import load_clips
from jntrt.runtime.tracker import Tracker

from .tiny import write_got10k


class Server:
    """What the toolkit asks, and what it was told."""

    def __init__(self, requests: list[Any]) -> None:
        self.requests, self.answers = requests, []

    def wait(self) -> Any:
        return self.requests.pop(0)

    def status(self, objects: list[Any]) -> None:
        self.answers.append(objects)


def region(*box: float) -> Any:
    return SimpleNamespace(bounds=lambda: box)


TRAX = SimpleNamespace(Rectangle=SimpleNamespace(create=region))


def test_objects_come_in_any_frame_and_are_followed_by_themselves(tmp_path: Path) -> None:
    (clip, _) = load_clips(write_got10k(tmp_path))
    first, second = tuple(clip.boxes[0]), (50.0, 20.0, 24.0, 20.0)

    def ask(kind: str, index: int, *boxes: tuple[float, ...]) -> Any:
        image = {"color": SimpleNamespace(path=lambda: str(clip.images[index]))}
        return SimpleNamespace(type=kind, image=image, objects=[(region(*box), {}) for box in boxes] or None)

    requests = [ask("initialize", 0, first), ask("frame", 1), ask("frame", 2, second), ask("frame", 3)]
    requests += [ask("initialize", 0, second), ask("frame", 1), SimpleNamespace(type="quit")]
    server = Server(requests)
    with Tracker.from_bundle("nanotrack-v3", "onnxruntime") as engine:
        vot.serve(TRAX, server, engine)
    assert [len(answer) for answer in server.answers] == [1, 1, 2, 2, 1, 1]
    with Tracker.from_bundle("nanotrack-v3", "onnxruntime") as tracker:
        tracker.init(clip.frame(0), first)
        for number in (1, 2, 3):
            found, told = server.answers[number][0]
            result = tracker.update(clip.frame(number))
            np.testing.assert_array_equal(found.bounds(), result.box)
            assert told == {"confidence": f"{result.score:.6f}"}
    assert server.answers[2][1][0].bounds() == second


def test_mistakes_are_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vot, "import_module", lambda name: TRAX)
    assert vot.main([]) == 2
    assert "usage: python -m jntrt.bench.vot BUNDLE" in capsys.readouterr().err
    assert vot.main(["no-such-bundle"]) == 2
    assert capsys.readouterr().err.startswith("vot: ")
