"""Workers that are actors of a Ray cluster.

An actor is restarted without end, on whatever node has room, and its job is not: the driver gives a lost job
to the next worker that is free, where Ray's own retry would wait for the room of the node that was lost.
"""

import logging
import os
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from jntrt.bench.sequences.workers.jobs import Done, Job, Lost, Refused, Seat, Unfit, Work
from jntrt.runtime.errors import UserError

log = logging.getLogger(__name__)

PATIENCE = 60.0  # seconds without any worker until that is said
ENGINES = ("onnxruntime", "openvino", "tensorrt", "numpy", "opencv-python-headless", "av")


class RayCrew:
    """Up to `count` actors (0: as many as the cluster has room for). A context manager; leaving it ends them.

    address: of the cluster, None for the one of this machine or of RAY_ADDRESS. cpus, gpus: of each worker;
    gpus may be a fraction. Raises UserError: no cluster there, or no room for a worker.
    """

    def __init__(self, work: Work, address: str | None, count: int, cpus: int, gpus: float) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # what is evaluated is nobody's business
        ray: Any = import_module("ray")
        self._ray = ray
        if not ray.is_initialized():
            try:
                ray.init(address=address or "auto", logging_level=logging.ERROR, log_to_driver=False)
            except (ConnectionError, ValueError, RuntimeError) as error:
                where = f" at {address}" if address else ""
                raise UserError(
                    f"no Ray cluster{where} ({str(error).splitlines()[0][:120]}): start one with "
                    "ray start --head, or give --jobs N for processes of this machine"
                ) from None
        room = _room(ray.cluster_resources(), cpus, gpus)
        if room < 1:
            raise UserError(
                f"the Ray cluster has no room for a worker of {cpus} CPUs and {gpus:g} GPUs: give fewer "
                "--threads or a smaller --worker-gpus"
            )
        actor = ray.remote(_Actor).options(
            num_cpus=cpus,
            num_gpus=gpus,
            max_restarts=-1,
            max_task_retries=0,
            scheduling_strategy="SPREAD",
        )
        shared = ray.put(work)
        self._versions = _versions()
        self._actors = [actor.remote(shared) for _ in range(min(count or room, room))]
        self._idle: list[Any] = []
        self._greetings = {self._greet(actor): actor for actor in self._actors}
        self._jobs: dict[Any, tuple[Any, Job]] = {}

    @property
    def idle(self) -> int:
        """How many workers wait for a job."""
        return len(self._idle)

    def give(self, job: Job) -> None:
        """Start a job on an idle worker."""
        actor = self._idle.pop()
        self._jobs[actor.attempt.remote(job)] = (actor, job)

    def wait(self) -> Done | Refused | Lost | Unfit | None:
        """Sleep until a job has ended, and how; None when a worker came (back)."""
        pending = [*self._jobs, *self._greetings]
        ready, _ = self._ray.wait(pending, num_returns=1, timeout=PATIENCE)
        if not ready:
            if not self._jobs:
                log.warning(
                    "no worker of the Ray cluster has started for %g s: are its CPUs taken?", PATIENCE
                )
            return None
        (first,) = ready
        if first in self._greetings:
            return self._welcome(first)
        actor, job = self._jobs.pop(first)
        try:
            outcome: Done | Refused | Unfit = self._ray.get(first)
        except self._ray.exceptions.RayActorError as error:
            self._greetings[self._greet(actor)] = actor
            return Lost(job.name, str(error).splitlines()[0][:120])
        except self._ray.exceptions.ObjectLostError:
            self._greetings[self._greet(actor)] = actor
            return Lost(job.name, "its result was lost with its node")
        self._idle.append(actor)
        return outcome

    def _greet(self, actor: Any) -> Any:
        # Of all calls this one waits for an actor that is being restarted.
        return actor.versions.options(max_task_retries=-1).remote()

    def _welcome(self, greeting: Any) -> Unfit | None:
        actor = self._greetings.pop(greeting)
        node, versions = self._ray.get(greeting)
        for name, ours in self._versions.items():
            if versions[name] != ours:
                return Unfit(
                    f"node {node} has {name} {versions[name] or 'not at all'}, the driver {ours or 'not'}: "
                    "install the same everywhere, results of two versions are not one evaluation"
                )
        self._idle.append(actor)
        return None

    def __enter__(self) -> "RayCrew":
        return self

    def __exit__(self, *error: object) -> None:
        for actor in self._actors:
            self._ray.kill(actor)


class _Actor:
    """A worker in an actor."""

    def __init__(self, work: Work) -> None:
        self._seat = Seat(work)

    def versions(self) -> tuple[str, dict[str, str]]:
        """The node's name, and the versions that results depend on."""
        return os.uname().nodename, _versions()

    def attempt(self, job: Job) -> Done | Refused | Unfit:
        """One job; what it refuses says where."""
        outcome = self._seat.attempt(job)
        node = os.uname().nodename
        if isinstance(outcome, Refused):
            return Refused(outcome.name, f"{outcome.reason} (on node {node})")
        return Unfit(f"{outcome.reason} (on node {node})") if isinstance(outcome, Unfit) else outcome


def _room(resources: dict[str, float], cpus: int, gpus: float) -> int:
    """How many workers of so many CPUs and GPUs a cluster's resources hold."""
    by_cpu = int(resources.get("CPU", 0) // cpus)
    return min(by_cpu, int(resources.get("GPU", 0) / gpus + 1e-9)) if gpus else by_cpu


def _versions() -> dict[str, str]:
    found = {}
    for name in ("jntrt", *ENGINES):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = ""
    return found
