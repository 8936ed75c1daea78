"""Which engine was the fastest with a bundle on this machine, where the user had it measured and kept.

A file for each machine and bundle below `$XDG_CACHE_HOME/jntrt/fastest`; `auto` takes what it says. Without
one the choice is the same everywhere: no measurement is made behind anybody's back.
"""

import hashlib
import json
import os
import platform
import tempfile
from pathlib import Path

from jntrt.runtime.bundle import Bundle
from jntrt.runtime.engines.cpu import features
from jntrt.runtime.engines.precision import Precision
from jntrt.runtime.errors import UserError

MAX_BYTES = 4096


def remember(bundle: Bundle, fastest: dict[str, str]) -> Path:
    """Keeps the engine's name of each precision in `fastest`, beside those of other precisions; the file.

    Raises UserError where the file cannot be written.
    """
    file = remembered_file(bundle)
    text = json.dumps(_read(file) | fastest, indent=1) + "\n"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=file.parent, delete=False) as part:
            part.write(text)
        os.replace(part.name, file)
    except OSError as error:
        raise UserError(f"{file}: cannot be written ({error.strerror}); set XDG_CACHE_HOME") from None
    return file


def remembered_backend(bundle: Bundle, precision: Precision) -> str | None:
    """The engine's name that was kept for the bundle in `precision`, None where none was."""
    return _read(remembered_file(bundle)).get(precision.name)


def remembered_file(bundle: Bundle) -> Path:
    """Where a bundle's fastest engines are kept, named by the processor and the bundle's digest."""
    machine = "\n".join([platform.machine(), str(os.cpu_count()), *sorted(features())])
    key = hashlib.sha256(f"{machine}\n{bundle.sha256}".encode()).hexdigest()[:32]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "jntrt" / "fastest" / f"{key}.json"


def _read(file: Path) -> dict[str, str]:
    """What the file says, {} where there is none or it is damaged: it is no more than a cache."""
    try:
        with file.open("rb") as stream:
            values = json.loads(stream.read(MAX_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    return {k: v for k, v in values.items() if isinstance(v, str)} if isinstance(values, dict) else {}
