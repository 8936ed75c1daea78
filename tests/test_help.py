"""The help in the documents is what the commands print."""

import sys
import tomllib
from pathlib import Path

import pytest

HELP = Path(__file__).parents[1] / "docs" / "help"
sys.path.insert(0, str(HELP))

from write import COMMANDS, help_of  # noqa: E402


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_is_the_command_s(command: str) -> None:
    written = (HELP / f"{command}.txt").read_text(encoding="utf-8")
    assert written == help_of(command), "run make help-texts"


def test_every_command_has_its_help() -> None:
    project = tomllib.loads((HELP.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(project["scripts"]) == set(COMMANDS)
    assert {path.stem for path in HELP.glob("*.txt")} == set(COMMANDS)
