"""Bundles, the folder that a checkpoint becomes: read, verified and written here and nowhere else."""

from jntrt.runtime.bundle.bundle import PARITY, Bundle, file_sha256, is_bundle
from jntrt.runtime.bundle.packaged import default_bundle, open_bundle
from jntrt.runtime.bundle.samples import KEPT, read_samples
from jntrt.runtime.bundle.write import add_precision, change_manifest, check_target, copy_bundle, write_bundle

__all__ = [
    "KEPT",
    "PARITY",
    "Bundle",
    "add_precision",
    "change_manifest",
    "check_target",
    "copy_bundle",
    "default_bundle",
    "file_sha256",
    "is_bundle",
    "open_bundle",
    "read_samples",
    "write_bundle",
]
