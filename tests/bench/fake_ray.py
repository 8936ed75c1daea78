"""As much of Ray as the crew calls, in this process: actors that are lost when a test says so."""

from types import SimpleNamespace
from typing import Any


class RayActorError(Exception):
    """An actor's process ended."""


class ObjectLostError(Exception):
    """A result's node is gone."""


class FakeRay:
    """`cluster_resources` is what a test gives. `lose`: names of jobs whose actor dies, once each."""

    exceptions = SimpleNamespace(RayActorError=RayActorError, ObjectLostError=ObjectLostError)

    def __init__(self, resources: dict[str, float], lose: tuple[str, ...] = ()) -> None:
        self.resources, self.lose = resources, list(lose)
        self.options: dict[str, Any] = {}
        self.killed: list[Any] = []
        self.results: dict[Any, Any] = {}
        self.address: str | None = None
        self.given: list[str] = []

    def is_initialized(self) -> bool:
        return self.address is not None

    def init(self, address: str, **_: Any) -> None:
        if address == "nowhere:1":
            raise ConnectionError("Ray is trying to start at nowhere:1")
        self.address = address

    def cluster_resources(self) -> dict[str, float]:
        return self.resources

    def put(self, value: Any) -> Any:
        return value

    def remote(self, cls: type) -> Any:
        def options(**given: Any) -> Any:
            self.options = given
            return SimpleNamespace(remote=lambda *words: _Handle(self, cls(*words)))

        return SimpleNamespace(options=options)

    def wait(self, pending: list[Any], num_returns: int, timeout: float) -> tuple[list[Any], list[Any]]:
        return pending[:1], pending[1:]

    def get(self, reference: Any) -> Any:
        value = self.results.pop(reference)
        if isinstance(value, Exception):
            raise value
        return value

    def kill(self, actor: Any) -> None:
        self.killed.append(actor)


class _Handle:
    def __init__(self, ray: FakeRay, actor: Any) -> None:
        self._ray, self._actor = ray, actor
        self.versions = SimpleNamespace(options=lambda **_: SimpleNamespace(remote=self._versions))
        self.attempt = SimpleNamespace(remote=self._attempt)

    def _versions(self) -> Any:
        return self._later(self._actor.versions())

    def _attempt(self, job: Any) -> Any:
        self._ray.given.append(job.name)
        if job.name in self._ray.lose:
            self._ray.lose.remove(job.name)
            return self._later(RayActorError("The actor died unexpectedly\nmore"))
        return self._later(self._actor.attempt(job))

    def _later(self, value: Any) -> Any:
        reference = object()
        self._ray.results[reference] = value
        return reference
