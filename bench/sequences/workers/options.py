"""Which workers a command takes: its flags, and the team that they mean."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jntrt.runtime.errors import UserError

if TYPE_CHECKING:
    from jntrt.bench.sequences.workers.jobs import Crew, Work


@dataclass(frozen=True)
class Workers:
    """Flags of the commands that follow many clips.

    Parameters
    ----------
    jobs
        Follow clips in so many processes at once; each has an engine of --threads (default: 1). Times of a
        frame are then not reported: workers share the machine. With --ray the most workers to take.
    ray
        Let the workers of a Ray cluster follow the clips: the one that runs here, or --ray ADDRESS. Bundle
        and data have to be under the same paths on all nodes.
    worker_gpus
        With --ray: the GPUs of a worker, 0.25 for four workers on each.
    """

    jobs: int | None = None
    ray: bool | str = False
    worker_gpus: float = 0.0

    def __post_init__(self) -> None:
        if self.jobs is not None and self.jobs < 1:
            raise UserError(f"--jobs {self.jobs}: give a number above zero")
        if self.worker_gpus < 0:
            raise UserError(f"--worker-gpus {self.worker_gpus:g}: give a number of GPUs, or a part of one")
        if self.worker_gpus and not self.ray:
            raise UserError("--worker-gpus: is for --ray")

    def team(self, threads: int | None) -> Team | None:
        """The team with the engines' threads fixed, or None: this process alone."""
        if self.jobs is None and not self.ray:
            return None
        return Team(self, 1 if threads is None else threads)


ALONE = Workers()


@dataclass(frozen=True)
class Team:
    """Workers whose engines have the same number of threads, wherever they run."""

    workers: Workers
    threads: int

    def crew(self, work: Work) -> AbstractContextManager[Crew]:
        """The workers, with `work` to do. Raises UserError where there is no cluster."""
        workers = self.workers
        if not workers.ray:
            from jntrt.bench.sequences.workers.local import LocalCrew

            return LocalCrew(work, workers.jobs or 1)
        from jntrt.bench.sequences.workers.on_ray import RayCrew

        address = workers.ray if isinstance(workers.ray, str) else None
        return RayCrew(work, address, workers.jobs or 0, self.threads, workers.worker_gpus)
