"""Bundles, and the checkpoint they were made from, as contestants of an accuracy run."""

import re
from contextlib import AbstractContextManager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from jntrt.bench.sequences.evaluate import Contestant, Tracks
from jntrt.runtime.bundle import Bundle, file_sha256, open_bundle
from jntrt.runtime.bundle.packaged import is_packaged
from jntrt.runtime.engines.auto import resolve
from jntrt.runtime.engines.precision import find_precision
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

    # A packaged bundle lies elsewhere on another machine.
    source = bundle.name if is_packaged(bundle) else str(bundle.path)
    open_it = partial(_open_bundle, source, identity["track_sha256"], backend, precision, threads)
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

    open_it = partial(_open_plain, bundle, threads, checkpoint.absolute())
    return Contestant(f"{bundle.name}-plain-torch", identity, open_it)


def _open_bundle(
    source: str, sha256: str, backend: str, precision: str, threads: int | None
) -> AbstractContextManager[Tracks]:
    """The tracker, wherever it is opened. UserError where another bundle lies at that place."""
    bundle = open_bundle(source)
    if bundle.entry(find_precision(precision).stored)["track"]["sha256"] != sha256:
        raise UserError(f"{source}: holds another track graph than the bundle that was named: copy it again")
    return Tracker.from_bundle(bundle, backend=backend, precision=precision, threads=threads)


def _open_plain(bundle: Bundle, threads: int | None, checkpoint: Path) -> AbstractContextManager[Tracks]:
    from jntrt.bench.latency.plain_network import plain_tracker

    return plain_tracker(bundle, "eager", threads, checkpoint)
