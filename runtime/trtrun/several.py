"""Which sources the words of a command line mean, and where the results of several go."""

import re
from dataclasses import dataclass
from glob import glob
from pathlib import Path

from jntrt.runtime.errors import UserError
from jntrt.runtime.trtrun.results.formats import SUFFIXES
from jntrt.runtime.video.images import IMAGE_SUFFIXES, natural_order
from jntrt.runtime.video.writer import CONTAINERS

Source = str | tuple[Path, ...]  # a tuple: images that are one source, frame after frame


@dataclass(frozen=True)
class Job:
    """One source and the files of its results."""

    source: Source
    out: Path | None
    save: Path | None

    @property
    def reads(self) -> list[Path]:
        """The files that it reads, where it reads files."""
        return [Path(self.source)] if isinstance(self.source, str) else list(self.source)

    @property
    def name(self) -> str:
        """A file name without suffix for its results."""
        first = self.reads[0]
        place = first.parent if isinstance(self.source, tuple) else first
        stem = place.stem if place.is_file() else place.name
        return re.sub(r"[^\w.-]+", "_", stem or place.absolute().name).strip("_.") or "source"


def meant(words: tuple[str, ...]) -> list[Source]:
    """The sources of `words`: images that a shell has listed are one, a glob of videos is several."""
    paths = [Path(word) for word in words]
    if len(words) > 1 and all(path.is_file() and path.suffix.lower() in IMAGE_SUFFIXES for path in paths):
        return [tuple(natural_order(paths))]
    sources: list[Source] = []
    for word in words:
        is_glob = any(character in word for character in "*?[") and not Path(word).exists()
        found = sorted(glob(word, recursive=True)) if is_glob and "://" not in word else []
        images = [name for name in found if Path(name).suffix.lower() in IMAGE_SUFFIXES]
        sources += [word] if images or not found else found
    return sources


def jobs(
    words: tuple[str, ...], out: Path | None, save: Path | None, out_dir: Path | None, kind: str
) -> list[Job]:
    """A job for each source. UserError where the results of two would be one file.

    With `out_dir`, results are named after their sources, and `save` is a suffix such as .mp4.
    """
    sources = meant(words)
    if out_dir is None:
        if len(sources) > 1 and (out or save):
            raise UserError(f"{len(sources)} sources, one after another: give --out-dir in place of --out")
        return [Job(source, out, save) for source in sources]
    if out:
        raise UserError("--out and --out-dir: give one of them")
    if save and save.name not in CONTAINERS:
        raise UserError(f"--save {save}: with --out-dir it is a suffix: {', '.join(CONTAINERS)}")
    found: dict[str, Job] = {}
    for source in sources:
        name = Job(source, None, None).name
        if name in found:
            raise UserError(f"{name}: two sources of that name; give them one at a time")
        box_file = out_dir / f"{name}{SUFFIXES[kind]}"
        found[name] = Job(source, box_file, out_dir / f"{name}{save.name}" if save else None)
    out_dir.mkdir(parents=True, exist_ok=True)
    return list(found.values())
