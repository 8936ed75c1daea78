"""Ctrl-C and SIGTERM: quiet and with 130, and never in the middle of what is being finished."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from jntrt.runtime.command.interrupts import Interrupts, handling


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_interrupts(number: int) -> None:
    with handling(Interrupts()), pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), number)


def press(times: int) -> None:
    for _ in range(times):
        os.kill(os.getpid(), signal.SIGINT)


def test_two_presses_only_ask_while_it_is_deferred() -> None:
    interrupts, asked, finished = Interrupts(), [], []

    def finish() -> None:
        with interrupts.deferred(lambda: asked.append(True)):
            press(2)
            finished.append(True)

    with handling(interrupts), pytest.raises(KeyboardInterrupt):
        finish()
    assert (asked, finished) == ([True, True], [True])


def test_the_third_press_gives_up() -> None:
    interrupts, finished = Interrupts(), []

    def finish() -> None:
        with interrupts.deferred():
            press(3)
            finished.append(True)

    with handling(interrupts), pytest.raises(KeyboardInterrupt):
        finish()
    assert not finished


def test_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with handling(Interrupts()):
        assert signal.getsignal(signal.SIGTERM) != before[1]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


# The signal comes from within an import, where it can come at any time.
IMPORTING = """
import os, signal, sys
from jntrt.runtime.command.start import start
signal.signal(signal.SIGINT, signal.default_int_handler)  # a test run in the background ignores it
sys.exit(start("interrupted_while_imported"))
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_interrupted_while_modules_are_imported(tmp_path: Path, name: str) -> None:
    (tmp_path / "interrupted_while_imported.py").write_text(
        f"import os, signal\nos.kill(os.getpid(), signal.{name})\nmain = lambda: print('not interrupted')\n"
    )
    line = [sys.executable, "-c", IMPORTING]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(line, capture_output=True, env=environment, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")


@pytest.mark.parametrize("room", ["runtime.trtrun", "export", "bench", "calib", "train"])
def test_every_command_starts_that_way(room: str) -> None:
    """Nothing is imported before the signals are caught."""
    code = (
        f"import sys; import jntrt.{room}.__main__ as start; "
        "heavy = {'cyclopts', 'rich', 'numpy', 'torch', 'cv2', 'av'} & set(sys.modules); "
        "sys.exit(f'imported {heavy}' if heavy or not callable(start.main) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
