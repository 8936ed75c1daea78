"""Ctrl-C and SIGTERM: quiet and with 130, and never in the middle of what is being finished."""

import importlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cyclopts import App

from jntrt.runtime.command.app import run
from jntrt.runtime.command.interrupts import Interrupts, handling


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_interrupts(number: int) -> None:
    with handling(Interrupts()), pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_import_ends_before_a_signal_interrupts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    (tmp_path / "slowly_imported.py").write_text(
        f"import os, time\nos.kill(os.getpid(), {int(number)})\ntime.sleep(0.2)\nwhole = True\n"
    )
    monkeypatch.syspath_prepend(tmp_path)

    def work() -> None:
        module = importlib.import_module("slowly_imported")
        assert module.whole
        time.sleep(10)

    begin = time.monotonic()
    with handling(Interrupts()), pytest.raises(KeyboardInterrupt):
        work()
    assert sys.modules.pop("slowly_imported").whole
    assert time.monotonic() - begin < 5


def test_a_command_that_an_import_runs_is_interrupted(tmp_path: Path) -> None:
    (tmp_path / "runs_it.py").write_text(
        "import os, signal, time\nfrom cyclopts import App\nfrom jntrt.runtime.command.app import run\n"
        "app = App(name='slow')\n"
        "@app.default\ndef work() -> None:\n    os.kill(os.getpid(), signal.SIGTERM)\n    time.sleep(20)\n"
        "code = run(app, [])\n"
    )
    words = [sys.executable, "-c", "import sys, runs_it; sys.exit(runs_it.code)"]
    assert subprocess.run(words, cwd=tmp_path, timeout=15, check=False).returncode == 130


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


# The signal comes while Python runs a text; with -m, an interrupt that was caught outside of it still kills.
WITHIN_A_TEXT = """
import sys
from cyclopts import App
from jntrt.runtime.command.app import run
app = App(name="a", suppress_keyboard_interrupt=False)
@app.default
def interrupted() -> None:
    exec("import os, signal; os.kill(os.getpid(), signal.SIGINT); print()")
sys.exit(run(app, []))
"""


def test_interrupted_within_an_exec(tmp_path: Path) -> None:
    (tmp_path / "within_a_text.py").write_text(WITHIN_A_TEXT)
    line = [sys.executable, "-m", "within_a_text"]
    done = subprocess.run(line, capture_output=True, cwd=tmp_path, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (130, b"a: interrupted\n")


def test_interrupted_while_an_extension_module_is_imported(capsys: pytest.CaptureFixture[str]) -> None:
    app = App(name="a")

    @app.default
    def interrupted() -> None:
        raise ImportError("initialization failed") from KeyboardInterrupt()

    assert run(app, []) == 130
    assert capsys.readouterr().err == "a: interrupted\n"
