"""What the benchmarks' servers and toolkits take: one file of boxes for each sequence, in their own layout.

| benchmark | file | line |
|---|---|---|
| got10k | NAME/NAME_001.txt, NAME/NAME_time.txt in a zip | x,y,w,h with 3 decimals; seconds |
| trackingnet | NAME.txt in a zip | x,y,w,h with 2 decimals |
| lasot | NAME.txt | x,y,w,h with 3 decimals |
| otb, uav123, nfs | NAME.txt | x,y,w,h with 3 decimals |

Boxes are those of the result files, frame 0 included. Where the name ends in .zip it is a zip, else a folder.
"""

import io
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from jntrt.bench.sequences.clips import Clip
from jntrt.bench.sequences.results import Run
from jntrt.runtime.command.files import replacing
from jntrt.runtime.errors import UserError

DECIMALS = {"got10k": 3, "trackingnet": 2, "lasot": 3, "otb": 3, "uav123": 3, "nfs": 3}
ZIPPED = ("got10k", "trackingnet")  # what their servers take
_EPOCH = (1980, 1, 1, 0, 0, 0)  # of every entry: the same results are the same bytes


def check_output(benchmark: str, output: Path) -> None:
    """UserError where the benchmark is unknown, or its results cannot go to `output`."""
    if benchmark not in DECIMALS:
        raise UserError(f"--benchmark {benchmark}: choose one of {', '.join(DECIMALS)}")
    if benchmark in ZIPPED and output.suffix.lower() != ".zip":
        raise UserError(f"-o {output}: {benchmark} takes a zip; give a name that ends in .zip")
    if output.exists():
        raise UserError(f"{output}: exists already; give another name")
    if not output.absolute().parent.is_dir():
        raise UserError(f"{output}: its folder does not exist")


def write_submission(benchmark: str, clips: Sequence[Clip], runs: Mapping[str, Run], output: Path) -> int:
    """Write the results of all clips; how many files. UserError as `check_output`."""
    check_output(benchmark, output)
    files = {name: text for clip in clips for name, text in _files(benchmark, clip.name, runs[clip.name])}
    if output.suffix.lower() != ".zip":
        output.mkdir()
        for name, text in files.items():
            with replacing(output / name) as stream:
                stream.write(text)
        return len(files)
    with (
        replacing(output, "wb") as stream,
        zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for name, text in sorted(files.items()):
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), text, zipfile.ZIP_DEFLATED)
    return len(files)


def _files(benchmark: str, name: str, run: Run) -> list[tuple[str, str]]:
    boxes = _lines(run.boxes, f"%.{DECIMALS[benchmark]}f")
    if benchmark != "got10k":
        return [(f"{name}.txt", boxes)]
    return [
        (f"{name}/{name}_001.txt", boxes),
        (f"{name}/{name}_time.txt", _lines(run.seconds, "%.8f")),
    ]


def _lines(values: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]", form: str) -> str:
    text = io.StringIO()
    np.savetxt(text, values, form, delimiter=",")
    return text.getvalue()
