"""What reaches the terminal: nothing of image libraries, no control codes, and errors of rich as one exit."""

import logging
import os
import subprocess
import sys

import pytest

from jntrt.runtime.command.console import StderrHandler, clean_stderr

CODE = """
import os, sys
from jntrt.runtime.command.console import clean_stderr
print("before", file=sys.stderr)
with clean_stderr():
    os.write(2, b"libpng warning: iCCP: \\x1b[31mred\\n")
    os.write(2, b"Corrupt JPEG data: premature end\\n")
    os.write(2, b"engine: \\x1b[2Ja warning\\n")
    print("own", file=sys.stderr)
os.write(2, b"after\\n")
"""


def test_native_lines_are_cleaned() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert sorted(done.stderr.splitlines()) == [
        "after",
        "before",
        "engine: \N{REPLACEMENT CHARACTER}[2Ja warning",
        "own",
    ]


def test_much_output_of_native_code_does_not_block() -> None:
    """It is made while the interpreter's lock is held, so that nobody empties the pipe."""
    much = b"libpng warning\n" * 100_000
    with clean_stderr():
        assert 0 < os.write(2, much) < len(much)


def test_a_closed_stderr_stays_closed() -> None:
    code = "from jntrt.runtime.command.console import clean_stderr\nwith clean_stderr(): print('done')"
    line = ["sh", "-c", 'exec "$@" 2>&-', "sh", sys.executable, "-c", code]
    assert subprocess.run(line, capture_output=True, check=True).stdout == b"done\n"


def test_logging_follows_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    handler = StderrHandler()
    handler.setFormatter(logging.Formatter("trtrun: %(message)s"))
    handler.handle(logging.LogRecord("jntrt", logging.WARNING, "", 0, "a line", (), None))
    assert capsys.readouterr().err == "trtrun: a line\n"


def test_a_reader_of_rich_that_leaves_is_no_error() -> None:
    """Rich answers a broken pipe with exit code 1."""
    code = (
        "import sys\n"
        "from jntrt.runtime.command.app import new_app, run\n"
        "app = new_app('export-jn', 'Export.')\n"
        "@app.default\n"
        "def inspect() -> None:\n"
        "    from rich.console import Console\n"
        "    for _ in range(20000): Console().print('a line')\n"
        "sys.exit(run(app))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 141
