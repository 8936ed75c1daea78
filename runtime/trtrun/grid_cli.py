"""trtrun grid: the first frame under a grid, to read a box off where nothing can be drawn."""

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from jntrt.runtime.errors import UserError


def add_grid(app: App) -> None:
    """Make `grid` a sub-command of `app`."""
    app.command(grid, name="grid")


def grid(
    source: str,
    /,
    *,
    out: Annotated[Path, Parameter(name=["--out", "-o"])],
    start: str | None = None,
    resize: str | None = None,
    overwrite: bool = False,
) -> None:
    """Save the first frame with a grid, labelled in image pixels: read the box for --init off it.

    Parameters
    ----------
    source:
        As for trtrun: a video, a folder of images, a glob in quotes, a camera's number, or a stream's URL.
    out:
        The picture, .png or .jpg.
    start:
        This frame in place of the first: its number, or seconds such as 2.5s.
    resize:
        Scale the frame first, as trtrun does with the same option.
    overwrite:
        Replace a picture that exists.
    """
    import cv2

    from jntrt.runtime.command.files import replacing
    from jntrt.runtime.trtrun.results.outputs import check_output
    from jntrt.runtime.video import grid as drawing
    from jntrt.runtime.video.selection import Selection
    from jntrt.runtime.video.sources import frames

    check_output(out, "--out", overwrite=overwrite)
    if out.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise UserError(f"--out {out}: give a name that ends in .png or .jpg")
    with frames(source, ahead=0, selection=Selection.parsed(start=start, resize=resize)) as stream:
        picture = drawing.grid(next(stream))
    _, data = cv2.imencode(out.suffix, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    with replacing(out, "wb", overwrite=overwrite) as stream:
        stream.write(data.tobytes())
    print(f"{out}: read x,y,w,h for --init off its labels")
