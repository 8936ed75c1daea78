"""The first moment of a command, while its modules are still being imported: Ctrl-C ends it quietly."""

import importlib
import os
import signal
import time

BEGAN = time.perf_counter()  # when the command began, as near as its own code can tell


def start(module: str) -> int:
    """Import the command's `module` and call its `main`; exit code 130 where it is interrupted before."""
    numbers = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) is not signal.SIG_IGN]
    # No exception: raised inside an import it can be caught there, or leave a half imported module.
    for number in numbers:  # `command.app.run` then sets its own
        signal.signal(number, lambda *_: os._exit(130))
    return int(importlib.import_module(module).main() or 0)
