"""`--data` as every command takes it: several values, or commas between them."""

from collections.abc import Sequence
from pathlib import Path

from jntrt.runtime.bundle import is_bundle
from jntrt.runtime.errors import UserError


def parse_data(words: Sequence[str], flag: str = "--data") -> list[Path]:
    """The paths of `--data A B`, `--data A --data B` and `--data A,B`; a path may have a comma in its name.

    Raises UserError where there is none, and for a bundle, which such an option swallows if it stands first.
    """
    paths = [
        path
        for word in words
        for path in ([Path(word)] if Path(word).exists() else map(Path, filter(None, word.split(","))))
    ]
    if not paths:
        raise UserError(f"{flag}: names nothing; give sequences, {flag} A,B or {flag} A B")
    for path in paths:
        if is_bundle(path):
            raise UserError(f"{flag} {path}: a bundle, not a sequence; bundles stand before {flag}")
    return paths
