"""How a family's recipe has its two crops cut, as the runtime reads it from a manifest."""

from __future__ import annotations

from typing import Any

from jntrt.export.families.contract import Family
from jntrt.runtime.bundle.manifest import CropSpec, Reader, crop_spec


def crop_specs(family: Family, recipe: Any) -> tuple[CropSpec, CropSpec]:
    """Of the template and of the search crop. UserError for a convention that the runtime does not know."""
    entries = Reader(family.conventions(recipe), "conventions")
    return crop_spec(entries.section("template")), crop_spec(entries.section("search"))
