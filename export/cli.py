"""export-jn: a checkpoint becomes a bundle; what a bundle is; whether it is whole."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from jntrt.export.families import command_flags
from jntrt.export.triton.serving import Serving
from jntrt.runtime.command.app import new_app, run
from jntrt.runtime.command.console import print_json
from jntrt.runtime.errors import UserError

if TYPE_CHECKING:
    from typing import Any as FamilyFlags
else:
    FamilyFlags = command_flags()

app = new_app("export-jn", "Turn a trained tracker's checkpoint into a bundle of two checked ONNX graphs.")


def main() -> int:
    """Entry point of `export-jn`."""
    return run(app)


@app.default
def export(
    checkpoint: Path,
    *,
    output: Annotated[Path | None, Parameter(alias="-o")] = None,
    config: Path | None = None,
    key_map: Path | None = None,
    batch: int = 1,
    flags: Annotated[FamilyFlags | None, Parameter(name="*")] = None,
    json: bool = False,
) -> None:
    """Turn a trained tracker's checkpoint into a bundle of two checked ONNX graphs.

    Sizes, depth, width and head are read from the weights; what they cannot show comes from the flags, else
    from --config, else from the official recipe name in the file or of its folder, else from the papers where
    the sizes are theirs. What nothing says, the command names and stops. The graphs are compared with the
    network in PyTorch before the bundle is put in its place. Nothing named in the file is run.

    Parameters
    ----------
    checkpoint:
        A .pth, .pth.tar or .pt file of torch.save, or a .safetensors file.
    output:
        The bundle's folder: new, empty, or a bundle, which is replaced. Default: the checkpoint's name
        without its ending, here.
    config:
        An experiment file (YAML) of the tracker's training code. Default: a YAML of the checkpoint's name
        beside it, where there is one.
    key_map:
        A YAML file that renames weights, old.name: new.name, * for any text.
    batch:
        Targets that are tracked at once; fixed in the graphs.
    flags:
        What weights cannot show, each for the families that have it.
    json:
        Print the result as JSON.
    """
    from jntrt.export.pipeline import export_checkpoint
    from jntrt.export.report import Progress, print_result

    with Progress() as progress:
        result = export_checkpoint(
            checkpoint, output, flags=flags, config=config, key_map=key_map, batch=batch, progress=progress
        )
    if json:
        print_json(result.to_dict())
    else:
        print_result(result)


@app.command(name="--list")
def list_families(*, json: bool = False) -> None:
    """Print the trackers that are known: what weights show of them and what has to be said.

    Parameters
    ----------
    json:
        Print the list as JSON.
    """
    from dataclasses import asdict

    from jntrt.export.families import family, folder_names
    from jntrt.export.report import print_supported

    supported = [(name, one) for name in folder_names() for one in family(name).SUPPORTED]
    if json:
        print_json([{"family": name, **asdict(one)} for name, one in supported])
    else:
        print_supported(supported)


@app.command
def inspect(bundle: str, *, json: bool = False) -> None:
    """Print what a bundle is: network, crops, precisions, files, figures, where it came from.

    Parameters
    ----------
    bundle:
        A folder that export-jn wrote, or a packaged bundle's name.
    json:
        Print the manifest as JSON.
    """
    from jntrt.export.report import print_bundle
    from jntrt.runtime.bundle import open_bundle

    opened = open_bundle(bundle)
    if json:
        print_json(opened.manifest)
    else:
        print_bundle(opened)


@app.command
def check(bundle: str, *, json: bool = False) -> None:
    """Verify a bundle: sizes and hashes of its files, the rules of its graphs, its stored outputs.

    Exit code 2 when a file is missing or changed or a graph breaks a rule, 3 when the outputs differ.

    Parameters
    ----------
    bundle:
        A folder that export-jn wrote, or a packaged bundle's name.
    json:
        Print the result as JSON.
    """
    from jntrt.export.check_bundle import check_bundle
    from jntrt.export.report import Progress, print_checks

    with Progress() as progress:
        checks = check_bundle(bundle, progress=progress)
    if json:
        print_json([{"precision": p, "check": what, "result": told} for p, what, told in checks])
    else:
        print_checks(bundle, checks)


@app.command
def triton(
    bundle: str,
    *,
    output: Annotated[Path, Parameter(alias="-o")],
    serving: Annotated[Serving | None, Parameter(name="*")] = None,
    json: bool = False,
) -> None:
    """Write BUNDLE as a model repository of NVIDIA Triton: its two graphs, and a tracker of many streams.

    tritonserver serves the folder as it is; the Python of its Python backend needs jntrt with an engine.
    docs/serving.md says how. trtrun --server is a client.

    Parameters
    ----------
    bundle:
        The bundle's folder, or a packaged bundle's name.
    output:
        A new folder.
    serving:
        How the models are served.
    json:
        Print the names of the models as JSON.
    """
    from jntrt.export.triton.repository import write_repository
    from jntrt.runtime.bundle import open_bundle

    models = write_repository(open_bundle(bundle), output, serving or Serving())
    if json:
        print_json({"repository": str(output), "models": models})
    else:
        print(f"{output}: {', '.join(models)}")


@app.command
def build(
    bundle: str,
    *,
    precision: str = "auto",
    backend: Literal["tensorrt", "tensorrt-rtx"] = "tensorrt",
    workspace: int | None = None,
    optimization_level: int | None = None,
    timing_cache: Path | None = None,
    device: int = 0,
    portable: bool = False,
    engine_key: Path | None = None,
    json: bool = False,
) -> None:
    """Build a bundle's TensorRT engines ahead of time, for the GPU of this machine.

    They go to the engine cache ($XDG_CACHE_HOME/jntrt/engines), where trtrun with the same options finds
    them, after a run on the bundle's stored samples: exit code 3 when they compute something else.

    Parameters
    ----------
    bundle:
        A folder that export-jn wrote, or a packaged bundle's name.
    precision:
        auto (fp16 where the bundle has it and it is safe, else fp32), or one that the bundle has.
    backend:
        The library to build with.
    workspace:
        MiB of scratch memory that a layer may take. Default: what the GPU has.
    optimization_level:
        0 (quick build) to 5 (quick engine). Default: the library's, 3.
    timing_cache:
        A file of measured kernels, read where it exists and written after the build (tensorrt only).
    device:
        The number of the GPU that they are for. Default: the first, 0.
    portable:
        One engine for every GPU from Ampere (sm_80) on, checked once on each model. TensorRT then has fewer
        kernels and fusions to choose from and at most 48 KiB of shared memory, so it is slower, tf32 most;
        TensorRT-RTX builds for all its targets at once.
    engine_key:
        Sign with the key in this file, which is made where there is none: machines that hold a copy share
        a cache among GPUs of one model. Default: this machine's own key.
    json:
        Print the result as JSON.
    """
    from jntrt.runtime.bundle import open_bundle
    from jntrt.runtime.engines.tensorrt.build import BuildOptions
    from jntrt.runtime.engines.tensorrt.build_ahead import build_engine, print_engines

    options = BuildOptions(workspace, optimization_level, timing_cache=timing_cache, portable=portable)
    engines = build_engine(open_bundle(bundle), precision, backend, options, device, engine_key)
    if json:
        print_json([engine.to_dict() for engine in engines])
    else:
        print_engines(engines)


@app.command
def cache(*, prune: float | None = None, json: bool = False) -> None:
    """List the TensorRT engines that this machine keeps, or remove those that are not used.

    Parameters
    ----------
    prune:
        Remove engines that were not used for this many days (0: all), and list what went.
    json:
        Print the list as JSON.
    """
    from jntrt.runtime.engines.tensorrt import kept
    from jntrt.runtime.engines.tensorrt.cache import EngineCache

    if prune is not None and not prune >= 0:
        raise UserError(f"--prune {prune:g}: give a number of days")
    engines = EngineCache()
    found = kept.kept_engines(engines) if prune is None else kept.prune(engines, prune)
    if json:
        print_json([engine.to_dict() for engine in found])
    else:
        kept.print_kept(engines, found, "engines" if prune is None else "removed engines")
