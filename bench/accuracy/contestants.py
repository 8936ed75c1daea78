"""Bundles, and the checkpoint they were made from, as contestants of an accuracy run."""

import re
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jntrt.bench.sequences.evaluate import Contestant, Tracks
from jntrt.runtime.bundle import Bundle, file_sha256
from jntrt.runtime.engines.auto import resolve
from jntrt.runtime.errors import UserError
from jntrt.runtime.tracker import Tracker


def bundle_contestant(bundle: Bundle, backend: str, precision: str, threads: int | None) -> Contestant:
    """A bundle in one engine and precision as a contestant; its results are tied to both."""
    if bundle.batch != 1:
        raise UserError(f"bundle {bundle.name} tracks {bundle.batch} targets at once: accuracy needs batch 1")
    if not re.fullmatch(r"\w[\w.+ -]*", bundle.name):  # it names a folder of results
        raise UserError(f"bundle {bundle.name!r}: its name cannot name a folder; export it under another")
    taken = resolve(bundle, precision, backend)
    backend, precision, stored = taken.backend.name, taken.precision.name, taken.precision.stored
    entry = bundle.entry(stored)
    identity: dict[str, Any] = {
        "bundle": bundle.name,
        "template_sha256": entry["template"]["sha256"],
        "track_sha256": entry["track"]["sha256"],
        # The graphs do not hold what the host does with them: where it crops, how it says the target's box.
        "crops": {"template": asdict(bundle.template), "search": asdict(bundle.search)},
        "recipe": dict(bundle.recipe),
        "backend": backend,
        "precision": precision,
        "threads": threads,
    }

    def open_it() -> AbstractContextManager[Tracks]:
        return Tracker.from_bundle(bundle.path, backend=backend, precision=precision, threads=threads)

    failed = "-failed-its-gate" if bundle.failed_gate(stored) else ""
    return Contestant(f"{bundle.name}-{backend}-{precision}{failed}", identity, open_it)


def plain_contestant(bundle: Bundle, checkpoint: Path, threads: int | None) -> Contestant:
    """The plain form of `checkpoint` in PyTorch, with the recipe, crops and mapping of `bundle`.

    What the bundle's own figures are held against: both have to give the same AO.
    """
    if not checkpoint.is_file():
        raise UserError(f"{checkpoint}: no such checkpoint")
    identity: dict[str, Any] = {
        "checkpoint_sha256": file_sha256(checkpoint),
        "recipe": dict(bundle.recipe),
        "threads": threads,
    }

    def open_it() -> AbstractContextManager[Tracks]:
        from jntrt.bench.latency.plain_network import plain_tracker

        return plain_tracker(bundle, "eager", threads, checkpoint)

    return Contestant(f"{bundle.name}-plain-torch", identity, open_it)
