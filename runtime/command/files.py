"""Replacing a file: it takes its name only when it is whole, and on the disk."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from jntrt.runtime.errors import UserError

try:
    import fcntl
except ImportError:  # Windows, where a file that is open cannot be removed anyway
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger(__name__)


class Replacement:
    """A file in the making, `part`, beside the `path` whose name it takes by `commit`.

    With `overwrite` false a file that has appeared at `path` meanwhile stays, and the result takes the next
    free name. What a killed run left for the same path is removed, which is logged; what a running one is
    writing stays. `permissions` are the new file's, less the umask's. Raises UserError where the folder
    cannot be written to.
    """

    def __init__(self, path: Path, *, overwrite: bool = True, permissions: int = 0o666) -> None:
        self.path, self._overwrite = path, overwrite
        self.part = path.with_name(f".{path.name}.{os.getpid()}.part")
        for left_over in _left_over(path):
            log.warning("%s: removed, a run that was killed had left it", left_over)
        try:
            self._lock = os.open(self.part, os.O_CREAT | os.O_RDWR | os.O_TRUNC, permissions)
        except OSError as error:
            raise UserError(f"{path}: cannot be written ({error.strerror}): name another folder") from None
        if fcntl is not None:  # elsewhere the open file is lock enough: it cannot be removed
            with suppress(OSError):  # a file system without locks
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def commit(self) -> None:
        """Put the part on the disk and give it its name; UserError where another file took the name."""
        try:
            handle = os.open(self.part, os.O_RDWR)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
            if fcntl is None:
                self._release()  # Windows renames no file that is open
            taken = self._take_name()
        finally:
            self._release()
        _sync_folder(self.path.parent)
        if taken != self.path:
            raise UserError(f"{self.path}: appeared during the run and stays; the result is {taken}")

    def discard(self) -> None:
        """Remove the part; `path` stays as it is."""
        self._release()
        self.part.unlink(missing_ok=True)

    def _take_name(self) -> Path:
        if self._overwrite:
            os.replace(self.part, self.path)
            return self.path
        number, path = 0, self.path
        while True:
            try:
                os.link(self.part, path)  # unlike a rename it never replaces
            except FileExistsError:
                number += 1
                path = self.path.with_name(f"{self.path.stem}.new{number}{self.path.suffix}")
            except OSError:  # a file system without links
                if path.exists():
                    raise
                os.replace(self.part, path)
                return path
            else:
                self.part.unlink()
                return path

    def _release(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


@contextmanager
def replacing(
    path: Path, mode: str = "w", *, overwrite: bool = True, permissions: int = 0o666
) -> Iterator[IO[Any]]:
    """A stream to write `path` with: it replaces the file when the block ends without error.

    Text is UTF-8 with the line ends that are written. The rest is as in `Replacement`.
    """
    replacement = Replacement(path, overwrite=overwrite, permissions=permissions)
    try:
        encoding, newline = (None, None) if "b" in mode else ("utf-8", "")
        with open(replacement.part, mode, encoding=encoding, newline=newline) as stream:
            yield stream
    except BaseException:
        replacement.discard()
        raise
    replacement.commit()


def _left_over(path: Path) -> list[Path]:
    """Parts of `path` that nobody writes any more, now removed."""
    removed = []
    prefix, suffix = f".{path.name}.", ".part"
    with suppress(OSError):
        for name in os.listdir(path.parent):
            process = name[len(prefix) : -len(suffix)]
            if not (name.startswith(prefix) and name.endswith(suffix) and process.isdigit()):
                continue
            part = path.with_name(name)
            if not _is_being_written(part):
                part.unlink()
                removed.append(part)
    return removed


def _is_being_written(part: Path) -> bool:
    """Whether a running process holds the lock of `part`; without locks its removal would fail."""
    if fcntl is None:
        return False
    handle = os.open(part, os.O_RDWR | os.O_NOFOLLOW)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


def _sync_folder(folder: Path) -> None:
    """Put the new name on the disk as well, where folders can be opened."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
