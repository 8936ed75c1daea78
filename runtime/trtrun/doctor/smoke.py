"""A second of tracking in one engine: `python -m jntrt.runtime.trtrun.doctor.smoke ENGINE`."""

import sys
import time
from typing import Any

from jntrt.runtime.trtrun.doctor.child import answer

SECONDS = 1.0  # of tracking, in each precision that the packaged bundle can be read in


def smoke(name: str) -> dict[str, Any]:
    """What an engine does with the packaged bundle, by precision: `obstacle` (why not), `fault` (what went
    wrong) or frames, `frame_ms` (median), and the difference from the bundle's stored outputs.

    Raises as the engine does where its module does not load.
    """
    from jntrt.runtime.bundle import default_bundle
    from jntrt.runtime.engines import backend_class
    from jntrt.runtime.engines.precision import PRECISIONS
    from jntrt.runtime.errors import UserError

    engine, bundle = backend_class(name), default_bundle()
    runs: dict[str, Any] = {}
    for precision in PRECISIONS.values():
        if precision.stored not in bundle.precisions:
            continue
        obstacle = engine.obstacle(precision)
        try:
            runs[str(precision)] = {"obstacle": obstacle} if obstacle else _run(engine, bundle, precision)
        except UserError as error:
            runs[str(precision)] = {"fault": str(error)}
    return {"bundle": bundle.name, "precisions": runs}


def _run(engine: Any, bundle: Any, precision: Any) -> dict[str, Any]:
    import numpy as np

    from jntrt.runtime.engines.options import EngineOptions
    from jntrt.runtime.engines.parity import compare_pair
    from jntrt.runtime.tracker import Tracker

    options = EngineOptions()
    frame = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    pair = engine.open(bundle, precision, options)
    difference = compare_pair(bundle, precision, engine, pair, options)
    with Tracker(bundle, pair) as tracker:
        tracker.init(frame, [(300, 200, 60, 60)] * bundle.batch)
        tracker.update(frame)
        times: list[float] = []
        end = time.perf_counter() + SECONDS
        while time.perf_counter() < end or not times:
            began = time.perf_counter()
            tracker.update(frame)
            times.append(1e3 * (time.perf_counter() - began))
        about = {key: str(value) for key, value in pair.describe().items()}
    if not difference.passed:
        return {"fault": f"computes something else than the bundle stores: {difference}", **about}
    return {
        "frames": len(times),
        "frame_ms": round(float(np.median(times)), 3),
        "difference": {"box": difference.box, "score": difference.score, "allowed": difference.limit},
        **about,
    }


if __name__ == "__main__":
    answer(lambda: smoke(sys.argv[1]))
