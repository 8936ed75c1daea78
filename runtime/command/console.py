"""What is written on a terminal: one clean line per error, and nothing that a library adds by itself."""

import json
import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

# What libpng, libjpeg and libtiff say of a damaged image, which is one line of ours already.
_OF_IMAGES = ("libpng ", "Corrupt JPEG", "Premature end of JPEG", "Invalid SOS", "Unsupported marker", "TIFF")
_PATIENCE = 2.0  # seconds for what is still in the pipe


def one_line(error: BaseException | str) -> str:
    """The error's text with line breaks and runs of spaces made single spaces, and no terminal's codes."""
    text = " ".join(str(error).split())
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


class StderrHandler(logging.Handler):
    """Logs to what sys.stderr is at that moment: a bar puts itself there, to print above it."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr)


def stderr_console() -> "Console":
    """Rich's console on stderr: where bars and remarks go, because stdout carries results."""
    from rich.console import Console

    return Console(stderr=True)


def print_json(value: object) -> None:
    """`value` as indented JSON on stdout."""
    sys.stdout.write(json.dumps(value, indent=1) + "\n")  # ASCII: names in files need not be sound Unicode


@contextmanager
def clean_stderr() -> Iterator[None]:
    """Within, what native code writes to stderr comes without a terminal's codes, and image libraries' lines
    not at all: they quote bytes of the file.

    Python's own sys.stderr goes where it went before. Nothing changes where stderr is closed or no file.
    """
    try:
        if sys.stderr is not None:
            sys.stderr.flush()
        real = os.dup(2)
        reader, writer = os.pipe()
    except (OSError, ValueError):
        yield
        return
    before = sys.stderr
    own = _is_descriptor_2(before)
    os.set_blocking(
        writer, False
    )  # native code that waited for room in it would hold the thread that makes it
    os.dup2(writer, 2)
    os.close(writer)
    thread = threading.Thread(target=_forward, args=(reader, real), name="stderr", daemon=True)
    thread.start()
    if own:
        sys.stderr = os.fdopen(
            os.dup(real), "w", encoding=before.encoding, errors="backslashreplace", buffering=1
        )
    try:
        yield
    finally:
        if own:
            sys.stderr.close()
            sys.stderr = before
        os.dup2(real, 2)
        thread.join(_PATIENCE)  # a child that still holds the pipe keeps it open
        os.close(real)


def _is_descriptor_2(stream: object) -> bool:
    try:
        return bool(stream.fileno() == 2)  # type: ignore[attr-defined]
    except (AttributeError, OSError, ValueError):
        return False


def _forward(reader: int, target: int) -> None:
    with os.fdopen(reader, "r", encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if not line.startswith(_OF_IMAGES):
                os.write(target, (one_line(line) + "\n").encode())
