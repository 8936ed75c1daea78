"""trtrun: track a target through a video."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from jntrt.runtime.command.app import new_app, run
from jntrt.runtime.errors import UserError
from jntrt.runtime.trtrun.doctor_cli import add_doctor
from jntrt.runtime.trtrun.grid_cli import add_grid
from jntrt.runtime.trtrun.options import Options

app = new_app("trtrun")
add_grid(app)
add_doctor(app)


def main() -> int:
    """Entry point of `trtrun`."""
    return run(app)


@app.default
def trtrun(
    *sources: str,
    options: Annotated[Options | None, Parameter(name="*")] = None,
) -> int:
    """Track a target through a video, images, a camera or a stream.

    Without --out, --save and --json the boxes go to stdout, one line x,y,w,h per frame, unless that is a
    terminal. Ctrl-C and a broken source keep what was tracked until then. A frame that is missing in a
    damaged source repeats the line and the picture before it; JSON lines leave its number out.

    Parameters
    ----------
    sources:
        A video file, a folder of images (GOT-10k sequences too), a glob, a camera's number, a stream's URL,
        or - for a video on stdin. Several are tracked at once (--out-dir); images that a glob lists are one.
    options:
        What to track in them, with what, and where to put it.
    """
    options = options or Options()
    if options.bundle == "list" and not Path(options.bundle).exists():
        return _list_packaged()
    if not sources:
        app.help_print()
        return 0
    from jntrt.runtime.bundle import open_bundle
    from jntrt.runtime.command.console import one_line
    from jntrt.runtime.trtrun.at_once import can_be_at_once, track_at_once
    from jntrt.runtime.trtrun.several import jobs
    from jntrt.runtime.trtrun.track import track
    from jntrt.runtime.view.address import split_address

    words, address = split_address(sources) if options.view else (sources, None)
    todo = jobs(words, options.out, options.save, options.out_dir, options.format)
    if len(todo) > 1 and not (options.out_dir or options.json):
        raise UserError(f"{len(todo)} sources: give --out-dir for their boxes, or --json")
    model = open_bundle(options.bundle)
    if len(todo) == 1:
        track(todo[0], model, options, address)
        return 0
    if can_be_at_once(todo, options):
        return track_at_once(todo, model, options)
    failed = 0
    for job in todo:
        print(f"trtrun: {job.reads[0]}", file=sys.stderr)
        try:
            track(job, model, options, address, named=True)
        except UserError as error:  # the others are tracked all the same
            print(f"trtrun: {one_line(error)}", file=sys.stderr)
            failed = error.exit_code
    return failed


def _list_packaged() -> int:
    from jntrt.runtime.bundle.packaged import DEFAULT, describe, open_packaged, packaged_names

    for name in packaged_names():
        told = " (default)" if name == DEFAULT else ""
        print(f"{name}{told}: {describe(open_packaged(name))}")
    return 0
