"""Untrained bundles of the families' published networks, made by the product's own commands."""

import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jntrt.bench.latency.drawn_video import BOX, write_clip
from jntrt.export.families import FAMILIES, family, folder_name
from jntrt.runtime.bundle import Bundle, is_bundle, open_bundle, write_bundle
from jntrt.runtime.bundle.bundle import PARITY
from jntrt.runtime.bundle.manifest import GRAPHS

COMPARED = "ostrack256ce"  # whose head is measured in two forms


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
            if name == COMPARED and is_bundle(bundle):
                yield _with_head_from_map(kind, folder)


def _with_head_from_map(kind: Any, folder: Path) -> Path:
    """The bundle of `COMPARED` again, its head's first convolution over the restored map."""
    made = folder / f"{COMPARED}-map-head"
    if not is_bundle(made):
        unfinished = folder / "unfinished" / made.name
        shutil.rmtree(unfinished, ignore_errors=True)
        recipe = kind.NETWORKS[COMPARED]
        head_from_map(open_bundle(folder / COMPARED), recipe, _weights(kind, recipe), unfinished)
        _calibrate(unfinished, folder)
        unfinished.rename(made)
    return made


def head_from_map(bundle: Bundle, recipe: Any, weights: Mapping[str, Any], target: Path) -> Bundle:
    """Writes `bundle` to `target` in fp32 with a track graph that gathers and then convolves (`FastHead`)."""
    from jntrt.export.families.ostrack.fast.graphs import build_graphs

    arrays = {name: value.numpy() for name, value in weights.items()}
    graphs = dict(zip(GRAPHS, build_graphs(recipe, arrays, head_from_map=True), strict=True))
    files: dict[str, Any] = {f"{graph}.onnx": model.SerializeToString() for graph, model in graphs.items()}
    precisions = {"fp32": {graph: {"file": f"{graph}.onnx"} for graph in graphs}}
    manifest = {**bundle.manifest, "name": target.name, "precisions": precisions}
    return write_bundle(target, manifest, {**files, PARITY: bundle.parity()})


def _weights(kind: Any, recipe: Any) -> dict[str, Any]:
    import torch

    torch.manual_seed(0)
    return {key: value.contiguous() for key, value in kind.plain(recipe).state_dict().items()}


def _export(kind: Any, name: str, folder: Path) -> None:
    """The bundle takes its name when it has all of its precisions, so that a later run may trust it."""
    import yaml
    from safetensors.torch import save_file

    recipe = kind.NETWORKS[name]
    weights, config = folder / f"{name}.safetensors", folder / f"{name}.yaml"
    unfinished = folder / "unfinished" / name
    save_file(_weights(kind, recipe), weights)
    config.write_text(yaml.safe_dump({**kind.experiment(recipe), "TRAINED": "no"}))
    shutil.rmtree(unfinished, ignore_errors=True)
    words = [str(weights), "-o", str(unfinished), "--config", str(config)]
    _command("jntrt.export.cli", words)
    _calibrate(unfinished, folder)
    weights.unlink()
    if is_bundle(unfinished):
        unfinished.rename(folder / name)


def _calibrate(bundle: Path, folder: Path) -> None:
    small = ["--crops", "8", "--gate-crops", "4", "--gate-frames", "5", "--force"]
    for precision in ("fp16", "bf16-gpu"):
        words = [str(bundle), "--data", str(folder / "clips"), "--precision", precision, *small]
        _command("jntrt.calib.cli", words)


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
