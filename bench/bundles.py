"""The bundles of a run, told apart by name."""

from collections.abc import Sequence
from dataclasses import replace

from jntrt.runtime.bundle import Bundle, default_bundle, open_bundle


def open_bundles(paths: Sequence[str]) -> list[Bundle]:
    """The bundles at `paths`; where two bear one name, each goes by its folder's.

    A copy keeps the name of its export inside. Raises UserError as `Bundle.open`.
    """
    bundles = [open_bundle(path) for path in paths]
    names = [bundle.name for bundle in bundles]
    return [
        replace(bundle, name=bundle.path.name) if names.count(bundle.name) > 1 else bundle
        for bundle in bundles
    ]


def open_or_default(paths: Sequence[str]) -> list[Bundle]:
    """`open_bundles`; the default bundle where no path is given."""
    return open_bundles(paths) or [default_bundle()]
