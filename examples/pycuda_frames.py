"""Frames that a PyCUDA pipeline holds on the GPU, tracked where they lie.

    python examples/pycuda_frames.py BUNDLE VIDEO x,y,w,h

Needs the extras `pycuda` and one of `trt`, `rtx`, `gpu`. PyCUDA works in the device's primary context
(`pycuda.autoprimaryctx`), which jntrt uses as well, so a GPUArray is taken as a frame without a copy.
"""

import sys

import numpy as np
import pycuda.autoprimaryctx
from pycuda import gpuarray

from jntrt.runtime import Tracker
from jntrt.runtime.video.sources import frames


def main(bundle: str, video: str, box: str) -> None:
    with Tracker.from_bundle(bundle) as tracker, frames(video) as stream:
        for number, frame in enumerate(stream):
            on_gpu = gpuarray.to_gpu(np.ascontiguousarray(frame))  # your pipeline's result would be here
            if number == 0:
                tracker.init(on_gpu, [float(value) for value in box.split(",")])
                continue
            result = tracker.update(on_gpu)
            print(",".join(f"{value:.2f}" for value in result.box), f"{result.score:.3f}")


if __name__ == "__main__":
    assert pycuda.autoprimaryctx.context is not None
    main(*sys.argv[1:4])
