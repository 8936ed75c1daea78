"""Small checkpoints that ask for a large network: refused in one line, before there is memory for it."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from jntrt.export.checkpoint import read_checkpoint

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
TINY = GOLDEN / "checkpoints" / "tiny_good.pth.tar"
SIAMESE = GOLDEN / "nanotrack" / "v1" / "weights.safetensors"
MEMORY_MB = 1024  # PyTorch alone takes up to half of it
SECONDS = 10  # of processor

# The command, and what it took; the exit code is the command's.
# VmHWM and not ru_maxrss, which a child begins with its parent's.
MEASURED = """
import json, os, re, sys
from pathlib import Path
from jntrt.export.cli import app
from jntrt.runtime.command.app import run
code = run(app, sys.argv[1:])
peak = re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())
print(json.dumps({"mb": int(peak[1]) >> 10, "s": sum(os.times()[:4])}))
sys.exit(code)
"""
State = dict[str, torch.Tensor]


def expanded(state: State) -> None:
    """A map of 16 million positions that are one number in the file."""
    state["backbone.pos_embed_x"] = torch.zeros(1, 1, 1).expand(1, 1 << 24, 16)


def honest(state: State) -> None:
    """As large as the file says: a crop of 2048 pixels, whose attention is 128 times the file."""
    state["backbone.pos_embed_x"] = torch.zeros(1, 128 * 128, 16, dtype=torch.float16)


def larger(state: State) -> None:
    state["backbone.pos_embed_x"] = torch.zeros(1, 160 * 160, 16, dtype=torch.float16)


def wide(state: State) -> None:
    """24,576 channels in the first layers, where a channel is a picture: 1.6 GB for each of them."""
    first = ("backbone.features.0.", "backbone.features.1.conv.")
    for name, array in state.items():
        # All sides of 16 but the last convolution's outputs and what follows it.
        if name.startswith(first) and ".conv.5." not in name:
            keep = ".conv.4." in name
            sides = [24_576 if n == 16 and not (keep and i == 0) else n for i, n in enumerate(array.shape)]
            state[name] = array[(slice(0, 1),) * array.ndim].expand(sides) if 16 in array.shape else array


TOLD = {
    TINY: ("--heads", "2", "--ce-layers", "none", "--template-factor", "2", "--search-factor", "4"),
    SIAMESE: ("--window-influence", "0.4", "--penalty-k", "0.1", "--rate", "0.4"),
}


@pytest.mark.parametrize(
    ("source", "change", "part"),
    [
        (TINY, expanded, "more than"),
        (TINY, honest, "is it a tracker?"),
        (TINY, larger, "larger than 2048; is it a tracker?"),
        (SIAMESE, wide, "is it a tracker?"),
    ],
)
def test_bombs(tmp_path: Path, source: Path, change: Callable[[State], None], part: str) -> None:
    state = {k: torch.from_numpy(v) for k, v in read_checkpoint(source).weights.items()}
    change(state)
    torch.save(state, tmp_path / "a.pth")
    words = [str(tmp_path / "a.pth"), "-o", str(tmp_path / "b")]
    line = [sys.executable, "-c", MEASURED, *words, *TOLD[source]]
    done = subprocess.run(line, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 2, done.stderr
    assert part in done.stderr
    assert done.stderr.count("\n") == 1
    took = json.loads(done.stdout.splitlines()[-1])
    assert took["mb"] < MEMORY_MB
    assert took["s"] < SECONDS
    assert not (tmp_path / "b").exists()
