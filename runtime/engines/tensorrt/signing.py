"""The key that signs engines: this machine's own, or one that a fleet was given on purpose.

Whoever holds it can make engines that run here as code, so it is readable by its owner alone.
"""

import hashlib
import hmac
import json
import os
import secrets
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from jntrt.runtime.errors import UserError

SECRET_BYTES = 32  # an empty file would sign anybody's engine


def default_key_file() -> Path:
    """`$XDG_DATA_HOME/jntrt/engine.key`: away from the cache."""
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "jntrt" / "engine.key"


def create_secret(path: Path) -> None:
    """Writes a new key where there is none. Raises UserError where it cannot be written."""
    if path.exists():
        return
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Written aside and linked: of several first builders one wins, and none reads half a key.
        handle, temporary = tempfile.mkstemp(prefix=".engine.key.", dir=path.parent)  # mode 0600
        try:
            with os.fdopen(handle, "w") as stream:
                stream.write(secrets.token_hex(SECRET_BYTES))
            with suppress(FileExistsError):
                os.link(temporary, path)
        finally:
            os.unlink(temporary)
    except OSError as error:
        raise UserError(f"the key {path} cannot be written: {error.strerror}") from error


def read_secret(path: Path) -> bytes | None:
    """The key in a file; None where there is no file.

    Raises UserError for what is no key, or what others than this user own or may read.
    """
    try:
        with path.open() as stream:
            status = os.fstat(stream.fileno())
            text = stream.read(4 * SECRET_BYTES)
        secret = bytes.fromhex(text.strip())
        if len(secret) != SECRET_BYTES:
            raise ValueError(f"{len(secret)} bytes where {SECRET_BYTES} were written")
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be used to sign engines ({error}): remove it") from error
    # Windows has no such numbers: there a user's own folders are nobody else's.
    if hasattr(os, "geteuid") and (status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077):
        raise UserError(
            f"{path} signs engines and belongs to or is open to others: chmod 600 it, as your own file"
        )
    return secret


def canonical(value: Any) -> bytes:
    """One spelling of a JSON value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def sign(secret: bytes, manifest: dict[str, Any]) -> str:
    """The signature of a manifest."""
    return hmac.new(secret, canonical(manifest), hashlib.sha256).hexdigest()


def same_digest(ours: str, claimed: str) -> bool:
    """Compared in constant time; a text that is not ASCII, which `hmac` refuses, is no digest."""
    return hmac.compare_digest(ours.encode(), claimed.encode("utf-8", "replace"))
