"""Writes each command's help beside this file, as the command prints it in 80 columns."""

import importlib
import io
from collections.abc import Iterator
from pathlib import Path

from cyclopts import App
from rich.console import Console

HERE = Path(__file__).parent
COMMANDS = {
    "trtrun": "jntrt.runtime.trtrun.cli",
    "export-jn": "jntrt.export.cli",
    "calib-jn": "jntrt.calib.cli",
    "bench-jn": "jntrt.bench.cli",
    "train-jn": "jntrt.train.cli",
}


def help_of(command: str) -> str:
    """The help of a command and of each of its sub-commands, one under the other."""
    app: App = importlib.import_module(COMMANDS[command]).app
    return "\n".join(_printed(app, [*words, "--help"], command) for words in _all_words(app))


def _all_words(app: App) -> Iterator[list[str]]:
    yield []
    for name in app:
        if not name.startswith("-"):
            yield from ([name, *words] for words in _all_words(app[name]))


def _printed(app: App, words: list[str], command: str) -> str:
    console = Console(file=io.StringIO(), width=80, color_system=None, force_terminal=False)
    app(words, console=console, exit_on_error=False, result_action="return_value")
    assert isinstance(console.file, io.StringIO)
    lines = [line.rstrip() for line in console.file.getvalue().strip().splitlines()]
    return "\n".join([f"$ {' '.join([command, *words])}", *lines, ""])


if __name__ == "__main__":
    for name in COMMANDS:
        (HERE / f"{name}.txt").write_text(help_of(name), encoding="utf-8")
