"""Drawing the first box with the mouse, where there is a display and an OpenCV that opens windows."""

import numpy as np
import numpy.typing as npt

from jntrt.runtime.errors import UserError
from jntrt.runtime.trtrun.window import has_display

_TITLE = "draw a box around the target, then Enter (c cancels)"


def draw_box(frame: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """The box (x,y,w,h) that the user draws on `frame` (H×W×3 RGB); UserError where none can be drawn."""
    remedy = "give --init x,y,w,h or --init-file groundtruth.txt, or --view to draw it in a browser"
    if not has_display():
        raise UserError(f"no box to start from, and no display to draw one on: {remedy}")
    import cv2

    try:
        cv2.namedWindow(_TITLE, cv2.WINDOW_AUTOSIZE)
        box = cv2.selectROI(_TITLE, np.ascontiguousarray(frame[:, :, ::-1]), False, False, printNotice=False)
        cv2.destroyWindow(_TITLE)
    except cv2.error:
        raise UserError(
            f"no box to start from, and this OpenCV opens no window: {remedy}, "
            "or install opencv-python in place of opencv-python-headless"
        ) from None
    if box[2] == 0 or box[3] == 0:
        raise UserError(f"no box was drawn: {remedy}")
    return np.array(box, np.float64)
