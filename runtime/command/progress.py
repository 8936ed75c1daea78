"""The one progress bar of all commands: on stderr, where that is a terminal, gone when the work is done."""

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress


def progress_bar(what: str = "{task.description}", *fields: str) -> "Progress":
    """A bar with `what` in front, the count, further `fields` (rich's formats), and the time that is left.

    It is a context manager and shows nothing where stderr is no terminal. What is printed to stderr meanwhile
    appears above it.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from jntrt.runtime.command.console import stderr_console

    return Progress(
        TextColumn(what),
        BarColumn(),
        MofNCompleteColumn(),
        *(TextColumn(field) for field in fields),
        TimeRemainingColumn(),
        console=stderr_console(),
        disable=not sys.stderr.isatty(),
        redirect_stdout=False,  # stdout carries results
        transient=True,
    )
