"""Ctrl-C and SIGTERM: they end the work, but never what is being finished."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SPARED = 2  # presses that a run which is finishing its files lets pass
AGAIN_SECONDS = 0.05


class Interrupts:
    """Counts SIGINT and SIGTERM of one process; `requested` tells whether there was one."""

    def __init__(self) -> None:
        self._process = os.getpid()
        self._presses = 0
        self._deferred = False
        self._on_request: Callable[[], None] | None = None

    @property
    def requested(self) -> bool:
        return self._presses > 0

    def handle(self, number: int, frame: FrameType | None) -> None:
        """The signal handler: KeyboardInterrupt, but after an import in progress; deferred, at the third."""
        # A forked worker that is told to end does.
        if os.getpid() != self._process and number == signal.SIGTERM:
            os._exit(128 + number)
        if _importing(frame):  # there it could be caught, or thrown through C++ that aborts the process
            timer = threading.Timer(AGAIN_SECONDS, _send, (number,))
            timer.daemon = True
            timer.start()
            return
        self._presses += 1
        if self._deferred and self._presses <= SPARED:
            if self._on_request is not None:
                self._on_request()
            return
        raise KeyboardInterrupt

    @contextmanager
    def deferred(self, on_request: Callable[[], None] | None = None) -> Iterator[None]:
        """Within, two presses only call `on_request` (it is to end the work soon); after, they interrupt.

        So no file that is being finished is lost to an exception that could come between any two lines.
        """
        self._deferred, self._on_request = True, on_request
        try:
            yield
        finally:
            self._deferred, self._on_request = False, None
        if self.requested:
            raise KeyboardInterrupt


def _importing(frame: FrameType | None) -> bool:
    """Whether the command is importing something; what imported the command does not count."""
    while frame is not None and frame.f_globals.get("__name__") != "jntrt.runtime.command.app":
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _send(number: int) -> None:
    if os.name == "nt":  # where os.kill ends the process
        signal.raise_signal(number)
    else:
        os.kill(os.getpid(), number)


@contextmanager
def handling(interrupts: Interrupts) -> Iterator[None]:
    """Within, `interrupts` handles SIGINT and SIGTERM; a signal that is ignored stays so (nohup)."""
    if threading.current_thread() is not threading.main_thread():  # only there can handlers be set
        yield
        return
    numbers = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) is not signal.SIG_IGN]
    before = {number: signal.signal(number, interrupts.handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)


# A process has one set of signals: `command.app.run` handles them by these.
interrupts = Interrupts()
