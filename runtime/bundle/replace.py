"""One folder takes another's place, one writer at a time, and what a killed writer left behind is mended.

Where the system can exchange two folders (Linux), there is no moment without a bundle. Elsewhere there are
two renames; a process that ends between them leaves the old bundle beside its place, under a name from which
`recover` puts it back.
"""

import ctypes
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Others who write bundles beside `folder` wait: a lock on the folder around it, which stays in place.

    Windows locks no folders: there a file beside the bundle is locked, and left.
    """
    try:
        import fcntl
    except ImportError:
        from filelock import FileLock

        with FileLock(folder.parent / ".jntrt.lock"):
            yield
        return
    handle = os.open(folder.parent, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)  # which lets the lock go


def work_folder(target: Path) -> Path:
    """An empty folder beside `target`, hidden, which `clean` knows for a left-over."""
    return Path(tempfile.mkdtemp(prefix=f".{target.name}.new.", dir=target.parent))


def replace_folder(work: Path, target: Path) -> None:
    """Put `work` in the place of the folder `target`; what was there is gone. Call it `locked`."""
    if not exchange(work, target):
        old = Path(tempfile.mkdtemp(prefix=f".{target.name}.old.", dir=target.parent))
        target.rename(old)
        try:
            work.rename(target)
        except BaseException:  # Ctrl-C too
            old.rename(target)
            raise
        work = old
    shutil.rmtree(work, ignore_errors=True)


def exchange(one: Path, other: Path) -> bool:
    """Exchange two folders in one step; False where the system or the file system cannot."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    names = os.fsencode(one), os.fsencode(other)
    done: int = call(_AT_FDCWD, names[0], _AT_FDCWD, names[1], ctypes.c_uint(_RENAME_EXCHANGE))
    return done == 0


def recover(target: Path, manifest: str) -> None:
    """Put a bundle back that a killed writer had moved aside, where nothing took its place."""
    try:
        if target.exists() or not _left_over(target, "old"):
            return
        with locked(target):
            for old in _left_over(target, "old"):
                if not target.exists() and (old / manifest).is_file():
                    old.rename(target)
    except OSError:  # a place that cannot be looked at: whoever reads the bundle says so
        return


def clean(target: Path) -> None:
    """Remove what killed writers left beside `target`. Call it `locked`: then nobody is at work there."""
    for folder in (*_left_over(target, "new"), *_left_over(target, "old")):
        shutil.rmtree(folder, ignore_errors=True)


def _left_over(target: Path, kind: str) -> list[Path]:
    name = re.compile(rf"\.{re.escape(target.name)}\.{kind}\.[a-z0-9_]{{8}}")
    return sorted(f for f in target.parent.iterdir() if name.fullmatch(f.name) and f.is_dir())
