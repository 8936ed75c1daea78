"""A question asked in a process of its own, whose end, whatever it is, is an answer."""

import json
import os
import signal
import subprocess
import sys
from typing import Any

from jntrt.runtime.errors import UserError

_TIMEOUT = 120.0  # seconds; a first import from a cold disk takes tens


class ProbeError(UserError):
    """The question got no answer; the text says why in one line."""


def ask(module: str, *words: str, timeout: float = _TIMEOUT) -> dict[str, Any]:
    """The JSON object that `python -m module words…` leaves on its last line.

    Raises ProbeError where it raised, crashed, ran longer than `timeout` seconds, or gave no object.
    """
    # -P: as the installed commands, it does not import from the folder that the user happens to stand in.
    command = [sys.executable, "-P", "-m", module, *words]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired:
        raise ProbeError(f"no answer within {timeout:.0f} s") from None
    except OSError as error:
        raise ProbeError(f"no process can be started ({error.strerror})") from None
    if done.returncode < 0:
        raise ProbeError(f"crashed ({_signal(-done.returncode)})")
    said = done.stdout.decode("utf-8", "replace").strip().splitlines()
    try:
        answer = json.loads(said[-1])
    except (IndexError, ValueError):
        raise ProbeError(_last_words(done.stderr) or f"ended with code {done.returncode}") from None
    if "error" in answer:
        raise ProbeError(_one_line(answer["error"]))
    found: dict[str, Any] = answer
    return found


def answer(question: Any) -> None:
    """What the child does: call `question`, print what it returns, or `error`, as its stdout's last line.

    What libraries print goes to stderr.
    """
    real = os.dup(1)
    os.dup2(2, 1)
    try:
        found = question()
    except Exception as error:  # whatever a broken library raises is the answer
        found = {"error": f"{type(error).__name__}: {error}" if str(error) else type(error).__name__}
    with os.fdopen(real, "w", encoding="utf-8") as stream:
        stream.write(f"\n{json.dumps(found)}\n")
        stream.flush()
    os._exit(0)  # libraries that crash while they end have answered all the same


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _last_words(stderr: bytes) -> str:
    said = stderr.decode("utf-8", "replace").strip().splitlines()
    return _one_line(said[-1]) if said else ""


def _one_line(text: object) -> str:
    return " ".join(str(text).split())[:300]
