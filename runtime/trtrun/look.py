"""How trtrun uses the page: open it, hand it every frame, start again from what was drawn."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from jntrt.runtime.trtrun.results.tracked import Tracked
from jntrt.runtime.trtrun.run import Follows, OneEach
from jntrt.runtime.view.address import Address
from jntrt.runtime.view.server import serve
from jntrt.runtime.view.session import Session

if TYPE_CHECKING:
    from jntrt.runtime.bundle import Bundle
    from jntrt.runtime.video.stream import Frames

MOST_TARGETS = 8  # of a page; each costs a tracker


@contextmanager
def viewing(stream: "Frames", model: "Bundle", targets: int, address: Address) -> Iterator[Session]:
    """Serve the page for a run of `model` over `stream`; its URL goes to stderr.

    A bundle of one takes as many targets as are drawn, up to MOST_TARGETS.
    """
    session = Session(
        Path(stream.name).name or stream.name,
        length=stream.length,
        threshold=model.presence_threshold,
        least=targets,
        most=targets if model.batch > 1 else MOST_TARGETS,
    )
    with serve(session, address) as url:
        print(f"trtrun: draw and watch at {url}", file=sys.stderr, flush=True)
        yield session


def look(session: Session, tracker: Follows, frame: npt.NDArray[np.uint8], tracked: Tracked) -> Tracked:
    """Show `frame`; where a box is drawn anew on it, start `tracker` again from there: what is then known."""
    drawn = session.show(tracked.frame, frame, tracked.boxes, tracked.scores, tracked.lost)
    if not drawn:
        return tracked
    boxes, scores, lost = tracked.boxes.copy(), list(tracked.scores), list(tracked.lost)
    for target, box in drawn.items():
        boxes[target], scores[target], lost[target] = box, None, False
    if isinstance(tracker, OneEach):  # the others go on with what they were shown
        tracker.init_some(frame, drawn)
    else:
        tracker.init(frame, boxes[0] if len(boxes) == 1 else boxes)
    return replace(tracked, boxes=boxes, scores=tuple(scores), lost=tuple(lost))


def stop(stream: "Frames", session: Session | None) -> None:
    """End the run before its next frame, a paused one too."""
    stream.stop()
    if session is not None:
        session.stop()
