"""A bundle as a tracker of the VOT toolkit, which starts it and speaks TraX with it.

In the toolkit's `trackers.ini`:

    [jntrt]
    label = jntrt
    protocol = trax
    command = python -m jntrt.bench.vot nanotrack-v3

Arguments: BUNDLE, then the engine and its precision where they are not auto and fp32. stdout belongs to the
toolkit.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from jntrt.bench.sequences.pixels import read_image
from jntrt.runtime.errors import UserError
from jntrt.runtime.tracker import Tracker


def main(words: Sequence[str]) -> int:
    """Serve the toolkit until it says quit; the exit code."""
    if not 1 <= len(words) <= 3:
        print("usage: python -m jntrt.bench.vot BUNDLE [BACKEND [PRECISION]]", file=sys.stderr)
        return 2
    trax = import_module("trax")
    try:
        backend, precision = (*words[1:], *("auto", "fp32")[len(words) - 1 :])
        with Tracker.from_bundle(words[0], backend, precision) as engine:
            color = [trax.Image.PATH]
            with trax.Server(
                [trax.Region.RECTANGLE], color, tracker_name="jntrt", multiobject=True
            ) as server:
                serve(trax, server, engine)
    except UserError as error:
        print(f"vot: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def serve(trax: Any, server: Any, engine: Tracker) -> None:
    """Answer requests: a tracker for each object, new ones in any frame; confidence is the presence."""
    trackers: list[Tracker] = []
    while True:
        request = server.wait()
        if request.type not in ("initialize", "frame"):
            break
        frame = read_image(Path(request.image["color"].path()))
        if request.type == "initialize":
            _close(trackers)
        results = [tracker.update(frame) for tracker in trackers]
        answer = [
            (trax.Rectangle.create(*map(float, result.box)), {"confidence": f"{np.max(result.score):.6f}"})
            for result in results
        ]
        for region, _ in request.objects or ():
            tracker = engine.another()
            tracker.init(frame, region.bounds())
            trackers.append(tracker)
            answer.append((region, {}))
        server.status(answer)
    _close(trackers)


def _close(trackers: list[Tracker]) -> None:
    for tracker in trackers:
        tracker.close()
    trackers.clear()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
