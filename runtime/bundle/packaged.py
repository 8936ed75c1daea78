"""The bundles that are packaged with jntrt, and the one place where a name or a folder becomes a bundle."""

import logging
import math
from pathlib import Path

from jntrt.runtime.bundle.bundle import Bundle, is_bundle
from jntrt.runtime.errors import UserError

DEFAULT = "nanotrack-v3"

_MODELS = Path(__file__).parents[1] / "models"

log = logging.getLogger(__name__)


def packaged_names() -> tuple[str, ...]:
    """Names of the packaged bundles, the default first."""
    found = {folder.name for folder in _MODELS.glob("*") if is_bundle(folder)}
    return tuple(sorted(found, key=lambda name: (name != DEFAULT, name)))


def is_packaged(bundle: Bundle) -> bool:
    """Whether it lies where jntrt is installed: it is not to be changed there."""
    return bundle.path.parent == _MODELS.resolve()


def open_packaged(name: str) -> Bundle:
    """The packaged bundle of this name. Raises UserError where there is none."""
    if name not in packaged_names():
        raise UserError(
            f"no bundle {name} is packaged with this installation: name one that export-jn wrote"
            " (trtrun --bundle DIR, bench-jn latency DIR)"
        )
    return Bundle.open(_MODELS / name)


def default_bundle() -> Bundle:
    """The packaged bundle that is taken where none is named. Raises UserError where there is none."""
    return open_packaged(DEFAULT)


def open_bundle(place: str | Path | None = None) -> Bundle:
    """The bundle in the folder `place`, else the packaged one of that name; None: the default.

    A folder wins over a packaged name, and the log says so. Raises UserError where it is neither, or as
    `Bundle.open`.
    """
    if place is None:
        return default_bundle()
    name = str(place)
    names = packaged_names()
    if name not in names:
        if Path(name).name == name and not _exists(Path(name)):
            raise UserError(
                f"{name[:200]!a} is not a bundle: no such folder, and packaged are"
                f" {', '.join(names) or 'none'}; make one with export-jn CKPT -o DIR"
            )
        return Bundle.open(place)
    if _exists(Path(name)):
        log.warning("%s: the folder here is taken, not the packaged bundle of that name", name)
        return Bundle.open(place)
    return open_packaged(name)


def describe(bundle: Bundle) -> str:
    """A line on what a bundle is: network, cost of a frame, crops, precisions, licence."""
    recipe = bundle.recipe
    parts = [str(recipe.get("version", bundle.family))]
    if math.isfinite(bundle.macs):
        parts.append(f"{bundle.macs / 1e9:.2f} GMACs a frame")
    parts.append(f"crops {bundle.template.size} and {bundle.search.size} px")
    parts.append("/".join(bundle.precisions))
    parts += [str(bundle.manifest.get(key, "unknown")) for key in ("weights", "license")]
    return ", ".join(parts)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name that is too long, or holds a zero byte: Bundle.open says which
        return True
