"""Engines on disk, each with a manifest that this machine, or its fleet, signed.

A TensorRT engine is code: reading a foreign one runs it. So an engine is handed out only when its manifest
was written by this machine (signed with a key that lies outside the cache, so that copying a cache brings
no trust along; a fleet shares a key on purpose), names exactly the engine that is asked for, and carries
the digest of the bytes that were read. All of this is compared before the bytes reach TensorRT, whose own
validity check is no protection against tampering.
"""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from typing_extensions import Self

from jntrt.runtime.command.files import replacing
from jntrt.runtime.engines.tensorrt.signing import (
    canonical,
    create_secret,
    default_key_file,
    read_secret,
    same_digest,
    sign,
)
from jntrt.runtime.errors import UserError

log = logging.getLogger(__name__)

FORMAT = 1
MAX_MANIFEST = 1 << 20  # bytes


class EngineRefused(UserError):
    """A cached engine is not the one that this machine built for this purpose."""


@dataclass(frozen=True)
class EngineKey:
    """Everything that an engine depends on. Two keys that differ in anything never share an engine."""

    model: str  # sha256 of the ONNX file
    precision: str
    flavour: str
    version: str
    gpu: str
    gpu_uuid: str  # "" where a fleet's key signs
    compute_capability: str
    driver: int
    options: dict[str, Any] = field(default_factory=dict)
    recipe: int = 0  # the version of our own build

    @property
    def digest(self) -> str:
        """The engine's name in the cache."""
        return hashlib.sha256(canonical(asdict(self))).hexdigest()


def compiled_key(key: EngineKey, gpu: str) -> EngineKey:
    """Of the kernels that RTX compiled of the engine `key` for that model of GPU."""
    return replace(key, gpu=gpu, options={**key.options, "part": "compiled kernels"})


# How a field of the key is called in a refusal.
FOREIGN = {
    "model": "another model",
    "precision": "another precision",
    "flavour": "another library",
    "version": "another version of the library",
    "gpu": "another GPU model",
    "gpu_uuid": "another GPU",
    "compute_capability": "another compute capability",
    "driver": "another driver",
    "recipe": "another version of jntrt's build",
    "options": "other build options",
}


@dataclass(frozen=True)
class Engine:
    """A plan whose digest was just compared, and what its manifest says."""

    plan: bytes
    manifest: dict[str, Any]

    @property
    def sha256(self) -> str:
        """Digest of the plan."""
        return str(self.manifest["sha256"])


def default_root() -> Path:
    """`$XDG_CACHE_HOME/jntrt/engines`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jntrt" / "engines"


class EngineCache:
    """The engines under `root`."""

    def __init__(self, root: Path | None = None, key_file: Path | None = None) -> None:
        """`key_file`: what signs, made with the first engine where it is missing."""
        self.root = root or default_root()
        self._key_file = key_file or default_key_file()
        self._signer = "written by this machine"

    @classmethod
    def open(cls, engine_key: Path | None) -> Self:
        """The cache with a fleet's key; None: with this machine's own. Raises UserError: no such key."""
        cache = cls(key_file=engine_key)
        if engine_key is not None:
            if read_secret(engine_key) is None:
                raise UserError(
                    f"--engine-key {engine_key}: no such file; export-jn build --engine-key makes it,"
                    " then every machine gets a copy"
                )
            cache._signer = f"signed with {engine_key}"
        return cache

    def engine_path(self, key: EngineKey) -> Path:
        """Where the plan lies, or would."""
        return self.root / f"{key.digest}.engine"

    def manifest_path(self, key: EngineKey) -> Path:
        """Where the manifest lies, or would."""
        return self.root / f"{key.digest}.json"

    def read(self, key: EngineKey) -> Engine | None:
        """The engine of `key`; None when there is none. Raises EngineRefused with the reason."""
        manifest = self._read_manifest(key)
        if manifest is None:
            return None
        path = self.engine_path(key)
        try:
            plan = path.read_bytes()
        except OSError as error:
            raise EngineRefused(f"{path.name} is refused: {error.strerror}") from error
        if len(plan) != manifest["bytes"]:
            raise EngineRefused(
                f"{path.name} is refused: {len(plan)} bytes where {manifest['bytes']} were written"
            )
        if not same_digest(hashlib.sha256(plan).hexdigest(), manifest["sha256"]):
            raise EngineRefused(f"{path.name} is refused: its bytes are not those that were written (sha256)")
        with suppress(OSError):
            os.utime(self.manifest_path(key))  # when it was used last
        return Engine(plan, manifest)

    def remove(self, name: str) -> None:
        """Removes the engine with that digest, if it is there; first its manifest, which makes it one."""
        for suffix in (".json", ".engine"):
            try:
                (self.root / f"{name}{suffix}").unlink(missing_ok=True)
            except OSError as error:
                raise UserError(f"{name}{suffix} in {self.root} stays: {error.strerror}") from error

    def obtain(self, key: EngineKey, build: Callable[[], bytes]) -> Engine:
        """The engine of `key`, built by `build` where the cache has none or refuses the one it has.

        Processes that want the same engine wait for the first one's. Interrupted, nothing is left that a
        later call would take for an engine.
        """
        engine = self._read_or_say(key)
        if engine is not None:
            return engine
        with self._locked(key):
            engine = self._read_or_say(key)  # another process may have built it meanwhile
            if engine is not None:
                return engine
            return self._store(key, build())

    def replace(self, key: EngineKey, plan: bytes) -> Engine:
        """Stores `plan` for `key`, whatever was there."""
        with self._locked(key):
            return self._store(key, plan)

    def record(self, key: EngineKey, engine: Engine, facts: dict[str, Any]) -> Engine:
        """Adds `facts` (the parity run's, say) to the manifest of an engine that the cache holds."""
        with self._locked(key):
            manifest = {**engine.manifest, **facts}
            self._write_manifest(key, manifest)
        return Engine(engine.plan, manifest)

    def _read_or_say(self, key: EngineKey) -> Engine | None:
        try:
            return self.read(key)
        except EngineRefused as refusal:
            log.warning("%s; a new one is built", refusal)
            return None

    def _read_manifest(self, key: EngineKey) -> dict[str, Any] | None:
        path = self.manifest_path(key)
        name = self.engine_path(key).name
        self._check_root()
        try:
            with path.open("rb") as stream:
                text = stream.read(MAX_MANIFEST + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise EngineRefused(
                f"{name} is refused: its manifest cannot be read ({error.strerror})"
            ) from error
        try:
            manifest = json.loads(text)
            claimed = manifest["key"]
            signature = manifest.pop("signature")
            known = (manifest["format"], type(manifest["bytes"]), type(manifest["sha256"]), type(signature))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise EngineRefused(f"{name} is refused: its manifest is not one of ours") from error
        if known != (FORMAT, int, str, str):
            raise EngineRefused(f"{name} is refused: its manifest is of another format")
        for fact, value in asdict(key).items():
            if not isinstance(claimed, dict) or claimed.get(fact) != value:
                raise EngineRefused(f"{name} is refused: it was built for {FOREIGN[fact]}")
        secret = read_secret(self._key_file)
        if secret is None or not same_digest(sign(secret, manifest), signature):
            raise EngineRefused(f"{name} is refused: its manifest was not {self._signer}")
        return dict(manifest)

    def _store(self, key: EngineKey, plan: bytes) -> Engine:
        for leftover in self.root.glob(f".{key.digest}.*"):  # of a builder that was killed; the lock is ours
            leftover.unlink(missing_ok=True)
        manifest = {
            "format": FORMAT,
            "key": asdict(key),
            "bytes": len(plan),
            "sha256": hashlib.sha256(plan).hexdigest(),
        }
        # The manifest comes last: without it there is no engine. An older one must not vouch for new bytes.
        self.manifest_path(key).unlink(missing_ok=True)
        self._write(self.engine_path(key), plan)
        self._write_manifest(key, manifest)
        return Engine(plan, manifest)

    def _write_manifest(self, key: EngineKey, manifest: dict[str, Any]) -> None:
        create_secret(self._key_file)
        secret = read_secret(self._key_file)
        assert secret is not None
        signed = {**manifest, "signature": sign(secret, manifest)}
        self._write(self.manifest_path(key), json.dumps(signed, indent=1).encode())

    def _write(self, path: Path, content: bytes) -> None:
        try:
            with replacing(path, "wb", permissions=0o600) as stream:
                stream.write(content)
        except OSError as error:
            raise UserError(f"the engine cannot be kept in {self.root}: {error.strerror}") from error

    def _check_root(self) -> None:
        """Makes the folder, or refuses one that others may write to: what lies there gets executed."""
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            status = self.root.stat()
        except OSError as error:
            raise UserError(f"the engine cache {self.root} cannot be used: {error.strerror}") from error
        if not hasattr(os, "geteuid"):  # Windows, where a user's own folders are nobody else's
            return
        if status.st_uid != os.geteuid() or status.st_mode & 0o022:
            raise UserError(
                f"the engine cache {self.root} belongs to or is writable by others: chmod go-w it,"
                " or set XDG_CACHE_HOME to a folder of your own"
            )

    @contextmanager
    def _locked(self, key: EngineKey) -> Iterator[None]:
        self._check_root()
        lock = FileLock(self.root / f"{key.digest}.lock")
        try:
            lock.acquire(blocking=False)
        except Timeout:
            log.warning("another process builds this engine: waiting for it")
            lock.acquire()
        try:
            yield
        finally:
            lock.release()
