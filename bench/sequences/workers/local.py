"""Workers that are processes of this machine."""

import contextlib
import multiprocessing
import os
import signal
import threading
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from jntrt.bench.sequences.workers.jobs import Done, Job, Lost, Refused, Seat, Unfit, Work


class LocalCrew:
    """`count` processes, started anew where one dies. A context manager; leaving it ends them."""

    def __init__(self, work: Work, count: int) -> None:
        # Not forked: an engine's threads would be missing in the copy.
        self._context = multiprocessing.get_context("spawn")
        self._work = work
        self._processes: dict[Connection, BaseProcess] = {}
        self._idle: list[Connection] = []
        self._jobs: dict[Connection, Job] = {}
        for _ in range(count):
            self._start()

    @property
    def idle(self) -> int:
        """How many workers wait for a job."""
        return len(self._idle)

    def give(self, job: Job) -> None:
        """Start a job on an idle worker."""
        connection = self._idle.pop()
        self._jobs[connection] = job
        with contextlib.suppress(BrokenPipeError):  # it has died: `wait` finds that out
            connection.send(job)

    def wait(self) -> Done | Refused | Lost | Unfit | None:
        """Sleep until a job has ended, and how."""
        (ready, *_) = wait(list(self._jobs))
        assert isinstance(ready, Connection)
        job = self._jobs.pop(ready)
        try:
            outcome: Done | Refused | Unfit = ready.recv()
        except (EOFError, ConnectionResetError):
            process = self._processes.pop(ready)
            process.join()
            self._start()
            return Lost(job.name, f"its process ended with code {process.exitcode}")
        self._idle.append(ready)
        return outcome

    def __enter__(self) -> "LocalCrew":
        return self

    def __exit__(self, *error: object) -> None:
        for process in self._processes.values():
            process.terminate()
        for connection, process in self._processes.items():
            process.join()
            connection.close()

    def _start(self) -> None:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_serve, args=(theirs, self._work), daemon=True)
        process.start()
        theirs.close()
        self._processes[ours] = process
        self._idle.append(ours)


def _serve(connection: "Connection[Any, Any]", work: Work) -> None:
    """A worker: jobs in, outcomes out, until the driver goes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group: the driver decides
    threading.Thread(target=_end_with_driver, daemon=True).start()
    with Seat(work) as seat:
        while True:
            try:
                job = connection.recv()
            except EOFError:
                return
            connection.send(seat.attempt(job))


def _end_with_driver() -> None:
    """A killed driver closes nothing: without this its workers would finish a clip that nobody takes."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
