"""Commands that write are killed and interrupted at random times: nothing promised is lost, nothing stays.

After each stop, what has its name is whole. After every few of them the command runs to its end, and what
killed runs left behind is gone.
"""

import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from commands import COMMANDS, Command  # noqa: E402

IN_A_ROW = 8  # stops between two full runs
PATIENCE = 600  # seconds to end: the machine may be busy with others


def started(words: list[str]) -> subprocess.Popen[str]:
    """The command, as soon as it handles signals: before that there is nothing that could be lost."""
    line = [sys.executable, "-m", f"jntrt.{words[0]}", *words[1:]]
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    status = Path(f"/proc/{process.pid}/status")
    while process.poll() is None:
        caught = next(row for row in status.read_text().splitlines() if row.startswith("SigCgt"))
        if int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1:
            break
        time.sleep(0.005)
    return process


def full_run(command: Command) -> float:
    """Runs it to its end; the seconds from the moment where it handles signals."""
    process = started(command.words)
    began = time.monotonic()
    error = process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == 0, error
    command.whole()
    return time.monotonic() - began


def stop(command: Command, number: signal.Signals, after: float) -> str:
    """Stops it after so many seconds and looks at what there is; how it ended, in a word."""
    process = started(command.words)
    time.sleep(after)
    process.send_signal(number)
    error = process.communicate(timeout=PATIENCE)[1]
    assert process.returncode in (0, -number, 130), error
    assert "Traceback" not in error, error
    if number != signal.SIGKILL and process.returncode == -number:  # Python was taking itself down already
        command.whole()
        return "finished"
    command.sound()
    return "finished" if process.returncode == 0 else "stopped"


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("trtrun", 4),
        ("bench", 4),
        *(pytest.param(name, 80, marks=pytest.mark.slow) for name in COMMANDS),
    ],
)
def test_stops_at_random_times(tmp_path: Path, name: str, count: int) -> None:
    """Half of them SIGKILL, a quarter SIGINT and SIGTERM each."""
    draw = random.Random(f"{name} {count}")
    command = COMMANDS[name](tmp_path)
    full_run(command)  # what the machine has not read yet makes the first one longer
    command.repeated()
    seconds = full_run(command)
    numbers = (signal.SIGKILL, signal.SIGINT, signal.SIGKILL, signal.SIGTERM)
    ends: Counter[tuple[str, str]] = Counter()
    for index in range(count):
        if index % IN_A_ROW == 0:
            command.repeated()
        number = numbers[index % len(numbers)]
        ends[number.name, stop(command, number, draw.uniform(0, 1.05 * seconds))] += 1
        if index % IN_A_ROW == IN_A_ROW - 1 or index == count - 1:
            full_run(command)
    print(f"{name}: {dict(ends)}")
    assert sum(n for (_, end), n in ends.items() if end == "stopped") > count / 4
