"""NanoTrack's backbone as a feature teacher: 48 channels at stride 16, the encoder's own grid."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jntrt.runtime.errors import UserError
from jntrt.train.data.scene import Image

CHANNELS = 48
_FILES = ("nanotrack_backbone_sim-opt.param", "nanotrack_backbone_sim-opt.bin")


def check_teacher(folder: Path) -> None:
    """UserError where `folder` lacks the teacher's files, ModuleNotFoundError without ncnn.

    For the process that forks the workers: it says in one line what they could not, and does not load ncnn.
    """
    for name in _FILES:
        if not (folder / name).is_file():
            raise UserError(f"{folder / name}: no such file; give NanoTrack's folder, or no teacher")
    if find_spec("ncnn") is None:
        raise ModuleNotFoundError("No module named 'ncnn'", name="ncnn")


class Teacher:
    """The backbone of NanoTrack (Apache-2.0, ncnn format) in `folder`, which `check_teacher` has passed."""

    def __init__(self, folder: Path) -> None:
        import ncnn

        self._net = ncnn.Net()
        self._net.opt.num_threads = 1
        self._net.load_param(str(folder / _FILES[0]))
        self._net.load_model(str(folder / _FILES[1]))
        self._matrix = ncnn.Mat

    def features(self, image: Image) -> NDArray[np.float32]:
        """(S/16)²×48 features of an S×S×3 RGB crop, row-major, over their standard deviation.

        So flat skies and forests weigh the same.
        """
        extractor = self._net.create_extractor()
        planes = np.ascontiguousarray(image.transpose(2, 0, 1), dtype=np.float32)
        extractor.input("input", self._matrix(planes))
        _, out = extractor.extract("output")
        tokens = np.array(out).reshape(CHANNELS, -1).T
        return np.ascontiguousarray(tokens / (tokens.std() + 1e-3), dtype=np.float32)
