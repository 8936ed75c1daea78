"""A child of `isolated`: COUNT damaged copies of a bundle are inspected, checked and tracked with.

Digests are made to fit the damage: a stranger's would.
"""

import hashlib
import io
import json
import os
import random
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from isolated import attempts
from mutate import damage, odd_value

FRAME = np.random.default_rng(0).integers(0, 255, (120, 160, 3), np.uint8)


def inspect(bundle: Path) -> None:
    from jntrt.export.report import print_bundle
    from jntrt.runtime.bundle import Bundle

    with redirect_stdout(io.StringIO()) as printed:
        print_bundle(Bundle.open(bundle))
    assert "\x1b" not in printed.getvalue()


def check(bundle: Path) -> None:
    from jntrt.export.check_bundle import check_bundle

    check_bundle(bundle)


def track(backend: str) -> Callable[[Path], None]:
    def tracked(bundle: Path) -> None:
        from jntrt.runtime import Tracker

        with Tracker.from_bundle(bundle, backend, "fp32", 1) as tracker:
            count = tracker.bundle.batch
            tracker.init(FRAME, [(60, 40, 30, 30)] * count)
            tracker.update(FRAME)

    return tracked


USES = {
    "inspect": inspect,
    "check": check,
    "onnxruntime": track("onnxruntime"),
    "openvino": track("openvino"),
}


def change_manifest(manifest: dict[str, Any], draw: random.Random) -> None:
    """Other values at one to three random places of the tree."""
    for _ in range(draw.randint(1, 3)):
        node: Any = manifest
        while True:
            keys = list(node) if isinstance(node, dict) else list(range(len(node)))
            key = draw.choice(keys)
            inner = node[key]
            if isinstance(inner, dict | list) and inner and draw.random() < 0.8:
                node = inner
                continue
            if draw.random() < 0.2:
                del node[key]
            else:
                node[key] = odd_value(draw)
            break
        if not manifest:
            return


def spoil(folder: Path, draw: random.Random) -> None:
    manifest = json.loads((folder / "bundle.json").read_text())
    what = draw.choice(("manifest", "bytes", "template.onnx", "track.onnx", "track.onnx", "parity.npz"))
    if what == "manifest":
        change_manifest(manifest, draw)
    elif what != "bytes":
        content = damage((folder / what).read_bytes(), draw)
        (folder / what).write_bytes(content)
        fits = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
        fp32 = manifest["precisions"]["fp32"]
        for entry in (fp32["template"], fp32["track"], manifest["parity"]):
            if entry["file"] == what:
                entry.update(fits)
    written = json.dumps(manifest).encode()
    (folder / "bundle.json").write_bytes(damage(written, draw) if what == "bytes" else written)


def main(good: Path, seed: int, count: int) -> None:
    def attempt(name: str) -> None:
        number, use = name.split()
        with TemporaryDirectory() as folder:
            bad = Path(folder) / "bundle"
            shutil.copytree(good, bad)
            spoil(bad, random.Random(f"{seed} {number}"))
            USES[use](bad)

    def names() -> Iterator[str]:
        every = [f"{number} {use}" for number in range(count) for use in USES]
        yield from every[int(os.environ["JNTRT_FUZZ_FROM"]) :]

    attempts(names(), attempt)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
