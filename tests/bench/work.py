"""Work for the tests of workers: functions that another process can import."""

import os
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from jntrt.runtime.errors import UserError


def open_list() -> AbstractContextManager[list[str]]:
    """What stays open between the jobs of a worker."""
    return nullcontext([])


def refuse_to_open() -> AbstractContextManager[list[str]]:
    raise UserError("no bundle here")


def do(opened: list[str], item: str) -> tuple[int, int]:
    """The process, and the job's number in it. `die-FILE` ends the process unless FILE is there already."""
    if item == "refused":
        raise UserError("damaged\nfile")
    if item == "deadly":
        os._exit(9)
    if item.startswith("once-"):
        marker = Path(item.removeprefix("once-"))
        if not marker.exists():
            marker.touch()
            os._exit(9)
    time.sleep(0.05)
    opened.append(item)
    return os.getpid(), len(opened)
