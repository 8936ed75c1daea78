"""Bundles, the folder that a checkpoint becomes: read, verified and written here and nowhere else."""

from jntrt.runtime.bundle.bundle import (
    PARITY,
    Bundle,
    add_precision,
    check_place,
    default_bundle,
    file_sha256,
    is_bundle,
    write_bundle,
)

__all__ = [
    "PARITY",
    "Bundle",
    "add_precision",
    "check_place",
    "default_bundle",
    "file_sha256",
    "is_bundle",
    "write_bundle",
]
