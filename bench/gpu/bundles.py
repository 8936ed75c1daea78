"""Untrained bundles of the families' published networks, made by the product's own commands."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jntrt.bench.latency.drawn_video import BOX, write_clip
from jntrt.export.families import FAMILIES, family, folder_name
from jntrt.runtime.bundle import is_bundle


def make_bundles(folder: Path) -> Iterator[Path]:
    """Bundles of all families' published networks in fp32, fp16 and bf16-gpu, each when asked for.

    One that an earlier run finished is taken as it is.
    """
    clips = folder / "clips"
    for kind in map(family, dict.fromkeys(map(folder_name, FAMILIES))):
        for name in kind.NETWORKS:
            bundle = folder / name
            if name == "tiny":
                continue
            if not is_bundle(bundle):
                print(f"making {name}", file=sys.stderr)
                _write_clips(clips)
                _export(kind, name, folder)
            if is_bundle(bundle):
                yield bundle


def _export(kind: Any, name: str, folder: Path) -> None:
    """The bundle takes its name when it has all of its precisions, so that a later run may trust it."""
    import torch
    import yaml
    from safetensors.torch import save_file

    recipe = kind.NETWORKS[name]
    torch.manual_seed(0)
    weights, config = folder / f"{name}.safetensors", folder / f"{name}.yaml"
    unfinished = folder / "unfinished" / name
    state = kind.plain(recipe).state_dict()
    save_file({key: value.contiguous() for key, value in state.items()}, weights)
    config.write_text(yaml.safe_dump({**kind.experiment(recipe), "TRAINED": "no"}))
    shutil.rmtree(unfinished, ignore_errors=True)
    words = [str(weights), "-o", str(unfinished), "--config", str(config)]
    _command("jntrt.export.cli", words)
    small = ["--crops", "8", "--gate-crops", "4", "--gate-frames", "5", "--force"]
    clips = str(folder / "clips")
    for precision in ("fp16", "bf16-gpu"):
        _command("jntrt.calib.cli", [str(unfinished), "--data", clips, "--precision", precision, *small])
    weights.unlink()
    if is_bundle(unfinished):
        unfinished.rename(folder / name)


def _write_clips(clips: Path) -> None:
    """One to calibrate on, which takes a frame per crop, and one held back."""
    clips.mkdir(parents=True, exist_ok=True)
    for name in ("one", "two"):
        write_clip(clips / f"{name}.mp4", frames=12)
        lines = [f"{number},{','.join(f'{value:g}' for value in BOX)}" for number in range(12)]
        (clips / f"{name}.csv").write_text("\n".join(["frame,x,y,w,h", *lines]) + "\n")


def _command(module: str, words: list[str]) -> None:
    start = f"import sys; from {module} import main; sys.exit(main())"
    run = subprocess.run([sys.executable, "-c", start, *words], capture_output=True, text=True, check=False)
    if run.returncode != 0:
        print(f"{module} {' '.join(words)}: {run.stderr.strip()[-300:]}", file=sys.stderr)
