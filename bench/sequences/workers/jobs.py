"""Jobs that several workers share: the longest first, each result as it comes, and nothing left out.

A crew is where the workers are: processes of this machine (`local.py`) or actors of a Ray cluster
(`on_ray.py`). Every worker opens its tracker once and keeps it for all of its jobs. Here is what both have in
common: what a worker does, and the driver that gives out jobs and takes lost ones back.
"""

import logging
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Any, Protocol

from jntrt.runtime.command.console import one_line
from jntrt.runtime.errors import UserError

log = logging.getLogger(__name__)

ATTEMPTS = 3  # workers that a job may lose: one that kills them all would never end


@dataclass(frozen=True)
class Work:
    """What every worker does: `open` once, then `do(opened, item)` for each job.

    It travels to other processes: functions of modules, partials of them, no closures.
    """

    open: Callable[[], AbstractContextManager[Any]]
    do: Callable[[Any, Any], Any]


@dataclass(frozen=True, eq=False)
class Job:
    """One item of the work, its name in errors, and how long it takes beside the others (frames)."""

    name: str
    cost: int
    item: Any


@dataclass(frozen=True, eq=False)
class Done:
    """A job and what the work made of it."""

    name: str
    value: Any


@dataclass(frozen=True)
class Refused:
    """A job that ended in a user's error; another worker would say the same."""

    name: str
    reason: str


@dataclass(frozen=True)
class Lost:
    """A job whose worker went before its end."""

    name: str
    reason: str


@dataclass(frozen=True)
class Unfit:
    """A worker that cannot open what the work needs: no result of this crew would be whole."""

    reason: str


class Crew(Protocol):
    """Workers, each with one job at a time. A lost one is replaced by the crew itself."""

    @property
    def idle(self) -> int:
        """How many workers wait for a job."""

    def give(self, job: Job) -> None:
        """Start a job on an idle worker."""

    def wait(self) -> Done | Refused | Lost | Unfit | None:
        """Sleep until a job has ended, and how; None when a worker became idle in another way."""


class Seat:
    """A worker's side: the work, opened with the first job. A context manager."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._stack = ExitStack()
        self._opened: list[Any] = []

    def attempt(self, job: Job) -> Done | Refused | Unfit:
        """Do one job. What is no user's error is raised."""
        if not self._opened:
            try:
                self._opened.append(self._stack.enter_context(self._work.open()))
            except UserError as error:
                return Unfit(one_line(error))
        try:
            return Done(job.name, self._work.do(self._opened[0], job.item))
        except UserError as error:
            return Refused(job.name, one_line(error))

    def __enter__(self) -> "Seat":
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()


def run_jobs(crew: Crew, jobs: Sequence[Job]) -> Iterator[tuple[str, Any]]:
    """Name and value of every job, in the order in which they end.

    A job whose worker is lost goes to another one, before the rest. Raises UserError at the end, when all
    others are done, where a job was refused or lost too often; at once where a worker cannot open its
    tracker.
    """
    waiting = deque(sorted(jobs, key=lambda job: -job.cost))
    by_name = {job.name: job for job in jobs}
    failures: dict[str, str] = {}
    lost: Counter[str] = Counter()
    running = 0
    while waiting or running:
        while waiting and crew.idle:
            crew.give(waiting.popleft())
            running += 1
        outcome = crew.wait()
        if outcome is None:
            continue
        if isinstance(outcome, Unfit):
            raise UserError(outcome.reason)
        running -= 1
        if isinstance(outcome, Done):
            yield outcome.name, outcome.value
        elif isinstance(outcome, Refused):
            failures[outcome.name] = outcome.reason
        else:
            lost[outcome.name] += 1
            log.warning("%s lost its worker (%s): another takes it", outcome.name, outcome.reason)
            if lost[outcome.name] < ATTEMPTS:
                waiting.appendleft(by_name[outcome.name])
            else:
                failures[outcome.name] = f"lost {ATTEMPTS} workers ({outcome.reason})"
    if failures:
        name, reason = next(iter(failures.items()))
        raise UserError(
            f"{len(failures)} of {len(jobs)} sequences have no result, the others are kept for the next run; "
            f"{name}: {reason}"
        )
