"""A checkpoint's bytes to named arrays and inert metadata; nothing in the file is executed."""

from jntrt.export.checkpoint.reader import Checkpoint, read_checkpoint

__all__ = ["Checkpoint", "read_checkpoint"]
