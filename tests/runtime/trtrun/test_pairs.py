"""trtrun on a bundle for two targets; in a module of its own because exporting that bundle needs torch."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from jntrt.runtime.command.app import run
from jntrt.runtime.trtrun.cli import app

ENGINE = ["--backend", "onnxruntime", "--threads", "1"]


def test_two_targets(pair_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for index in range(4):
        cv2.imwrite(str(tmp_path / f"{index}.png"), np.full((90, 120, 3), 40 * index, np.uint8))
    out = tmp_path / "boxes.txt"
    words = [str(tmp_path), "--bundle", str(pair_bundle), "--init", "20,30,24,20", "--init", "60,20,30,30"]
    assert run(app, [*words, "--out", str(out), "--json", *ENGINE]) == 0
    assert len(np.loadtxt(tmp_path / "boxes.1.txt", delimiter=",")) == 4
    assert np.loadtxt(tmp_path / "boxes.2.txt", delimiter=",")[0].tolist() == [60, 20, 30, 30]
    assert np.shape(json.loads(capsys.readouterr().out.splitlines()[3])["box"]) == (2, 4)
    assert run(app, [*words, "--init", "1,2,3,4", *ENGINE]) == 2
    assert "tracks up to 2 targets, 3 given" in capsys.readouterr().err
