"""export-jn in this process, and the small network that it is tried with."""

from __future__ import annotations

from pathlib import Path

import pytest

from jntrt.export.cli import app
from jntrt.runtime.command.app import run

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
TINY = GOLDEN / "checkpoints" / "tiny_good.pth.tar"
TINY_YAML = GOLDEN / "checkpoints" / "tiny.config.yaml"


def export_jn(*arguments: object) -> int:
    return run(app, [str(a) for a in arguments])


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr."""
    told = capsys.readouterr().err
    assert told.startswith("export-jn: ")
    assert told.count("\n") == 1
    return told
