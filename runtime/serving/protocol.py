"""What client and server say to each other: the tensors of the model `jntrt_tracker`.

A stream is one of Triton's sequences. Its first request (START) brings a frame and the targets' boxes, each
later one a frame, and each answer has the boxes in that frame; the last one (END) may come without a frame.
"""

MODEL = "jntrt_tracker"

FRAME = "frame"  # uint8 H×W×3, RGB, or BGR where BGR said so at START; also through shared memory
IMAGE = "image"  # uint8, the bytes of a JPEG (or PNG) file, in place of `frame`
BGR = "bgr"  # bool (1), at START: raw frames of this stream are BGR
BOXES = "boxes"  # float64 N×4, x, y, w, h in pixels: in at START, out always
SCORES = "scores"  # float64 N, presence 0 … 1; NaN at START
LOST = "lost"  # bool N, presence under the bundle's threshold

# Control tensors, which Triton fills from a request's sequence flags.
START = "start"
END = "end"
STREAM = "stream"

# Parameters of the model's configuration.
BACKEND, PRECISION, THREADS, NETWORKS = "backend", "precision", "threads", "networks"
MAX_PIXELS, MAX_STREAMS, MAX_TARGETS, IDLE = "max_pixels", "max_streams", "max_targets", "idle_seconds"

BUNDLE = "bundle"  # folder beside model.py
