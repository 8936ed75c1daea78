"""The report's rows, section by section, each found out when it is asked for."""

import os
import platform
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from jntrt.runtime.trtrun.doctor.child import ProbeError, ask
from jntrt.runtime.trtrun.doctor.libraries import command_rows, is_installed, library_rows, requirements
from jntrt.runtime.trtrun.doctor.rows import Row

_PROBES = "jntrt.runtime.trtrun.doctor.probes"
_SMOKE = "jntrt.runtime.trtrun.doctor.smoke"
_SMOKE_TIMEOUT = 420.0  # seconds: TensorRT builds its engine first
_OLDEST_PYTHON = (3, 10)
_CUDA = 13000  # what the wheels of the extras gpu and trt are made for

# Names and distributions in `auto`'s order; `runtime.engines` has the table, but needs NumPy, which may be
# what is broken.
ENGINES = {
    "tensorrt": "tensorrt",
    "tensorrt-rtx": "tensorrt-rtx",
    "onnxruntime-cuda": "onnxruntime-gpu",
    "onnxruntime": "onnxruntime",
    "openvino": "openvino",
}
ON_CPU = ("onnxruntime", "openvino")
_ABOVE = "see the broken rows above"
# What int8 and bf16 are computed with, as Linux names it.
_VNNI = {"avx512_vnni": "AVX512-VNNI", "avx_vnni": "AVX-VNNI"}
_BF16 = {"amx_bf16": "AMX-BF16", "avx512_bf16": "AVX512-BF16"}
_VECTORS = {"avx512f": "AVX-512", "avx2": "AVX2", "avx": "AVX"}


def sections() -> Iterator[tuple[str, Iterator[Row]]]:
    """Titles and rows, in the report's order."""
    gpus = _gpus()
    yield "Machine", _machine()
    yield "NVIDIA", _nvidia(gpus)
    yield "Libraries", _libraries(gpu=bool(gpus.get("cuda")))
    yield "Video and display", _media()
    yield "Packaged bundles", _bundles()
    yield "Engines", (engine_row(name, gpu=bool(gpus.get("cuda"))) for name in ENGINES)
    yield "Other commands", command_rows()


def _machine() -> Iterator[Row]:
    python = platform.python_version()
    old = sys.version_info[:2] < _OLDEST_PYTHON
    bits = 64 if sys.maxsize > 2**32 else 32
    yield Row(
        "Python",
        "old" if old else "ok",
        f"{python}, {platform.python_implementation()}, {bits} bits",
        "install Python 3.10 or later, then jntrt into it" if old else "",
        {"version": python},
    )
    libc = " ".join(part for part in platform.libc_ver() if part)
    told = [f"{platform.system()} {platform.release()}", platform.machine(), libc]
    yield Row("system", "ok", ", ".join(part for part in told if part))
    yield _processor()


def _processor() -> Row:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    head = f"{_processor_name()}, {cores} cores"
    try:
        said = ask(_PROBES, "processor")
    except ProbeError as error:
        return Row("processor", "ok", f"{head}; its features could not be read: {error}")
    found = set(said["features"])
    if not found:
        return Row("processor", "ok", f"{head}; its features cannot be read on this system", facts=said)
    wide = next((name for flag, name in _VECTORS.items() if flag in found), "no AVX")
    vnni = [name for flag, name in _VNNI.items() if flag in found]
    bf16 = [name for flag, name in _BF16.items() if flag in found]
    pays = ["int8"] * bool(vnni) + ["bf16 and int8-bf16 (OpenVINO)"] * bool(bf16)
    sets = ", ".join([wide, *vnni, *bf16])
    advice = f"beside fp32 {', '.join(pays)} can pay" if pays else "fp32 is what pays"
    slow = "; int8 without VNNI: sums of 8-bit weights saturate" if said["saturates"] else ""
    facts = {"cores": cores, "sets": [wide, *vnni, *bf16], "saturates": said["saturates"]}
    return Row("processor", "ok", f"{head}; {sets}: {advice}{slow}", facts=facts)


def _processor_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _libraries(*, gpu: bool) -> Iterator[Row]:
    try:
        yield Row("jntrt", "ok", version("jntrt"), facts={"version": version("jntrt")})
    except PackageNotFoundError:
        yield Row(
            "jntrt", "broken", "imported from a folder, not installed", "pip install . (in that folder)"
        )
    if not requirements():
        return
    yield from library_rows(gpu=gpu)
    try:
        native = ask(_PROBES, "crop")["native"]
    except ProbeError as error:
        yield Row("crop", "broken", f"does not load: {error}", _ABOVE)
        return
    if native:
        yield Row("crop", "ok", "native", facts={"native": True})
    else:
        again = (
            "install a C++ compiler, then pip install --force-reinstall --no-deps jntrt: faster, same pixels"
        )
        yield Row("crop", "ok", "OpenCV's: installed without a compiler", again, {"native": False})


def _gpus() -> dict[str, Any]:
    try:
        return ask(_PROBES, "gpus")
    except ProbeError as error:
        return {"fault": str(error)}


def _nvidia(said: dict[str, Any]) -> Iterator[Row]:
    if "fault" in said:
        yield Row("driver", "broken", said["fault"], "install the driver again, then restart the machine")
        return
    if said["cuda"] is None:
        yield Row("driver", "absent", "no NVIDIA driver (libcuda) on this machine", facts=said)
        return
    cuda = f"CUDA {said['cuda'] // 1000}.{said['cuda'] % 1000 // 10}"
    if "failure" in said:
        again = "restart the machine; in a container, start it with its GPU"
        yield Row("driver", "broken", f"{cuda}; {said['failure']}", again, said)
        return
    if said["cuda"] < _CUDA:
        needs = f"{cuda}; onnxruntime-cuda and TensorRT's wheels need CUDA 13"
        yield Row("driver", "old", needs, "install NVIDIA's driver 580 or later", said)
    else:
        yield Row("driver", "ok", cuda, facts=said)
    if not said["gpus"]:
        yield Row("GPU", "absent", "the driver shows none")
    for gpu in said["gpus"]:
        major, minor = gpu["capability"]
        told = f"compute capability {major}.{minor}, {gpu['bytes'] / 2**30:.0f} GiB"
        old = (major, minor) < (7, 5)
        needs = "; TensorRT needs 7.5 (Turing) or later, take onnxruntime-cuda" if old else ""
        yield Row(gpu["name"], "old" if old else "ok", told + needs, facts=gpu)


def _media() -> Iterator[Row]:
    try:
        said = ask(_PROBES, "codecs")
    except ProbeError as error:
        yield Row("FFmpeg", "broken", f"no video can be read or written: {error}", _ABOVE)
    else:
        decoders = ", ".join(said["decoders"])
        about = f"libavcodec {said['libavcodec']} (av {said['av']}); decodes {decoders}"
        yield Row("FFmpeg", "ok", about, facts=said)
        if "libx264" in said["encoders"]:
            yield Row("--save", "ok", f"wrote and read back with {', '.join(said['encoders'])}")
        else:
            why = said["failing encoders"].get("libx264")
            lacks = "this FFmpeg has no libx264"
            yield Row("--save", "broken", why or lacks, _ABOVE if why else "pip install --force-reinstall av")
        if idle := [name for name in said["failing encoders"] if name != "libx264"]:
            yield Row("--save-encoder", "absent", f"in this FFmpeg without running here: {', '.join(idle)}")
    yield _window()


def _window() -> Row:
    try:
        said = ask(_PROBES, "windows")
    except ProbeError as error:  # OpenCV's window code ends the process where it cannot reach the display
        return Row("display", "broken", f"no window opens: {error}", "--view shows the run in a browser")
    if not said["display"]:
        return Row("display", "absent", "none: --view in place of --show", facts=said)
    if not said["window"]:
        return Row("display", "absent", said["reason"], facts=said)
    return Row("display", "ok", "--show opens a window", facts=said)


def _bundles() -> Iterator[Row]:
    again = "pip install --force-reinstall --no-deps . (in jntrt's folder)"
    try:
        said = ask(_PROBES, "bundles")
    except ProbeError as error:
        yield Row("bundles", "broken", f"cannot be read: {error}", _ABOVE)
        return
    if not said:
        yield Row("bundles", "broken", "none lies beside the runtime", again)
    for name, found in said.items():
        if "fault" in found:
            yield Row(name, "broken", found["fault"], again, found)
        else:
            yield Row(name, "ok", f"{found['line']}; {found['files']} files as recorded", facts=found)


def engine_row(name: str, *, gpu: bool) -> Row:
    """Whether an engine runs here, by a second of tracking where it says that it does.

    gpu: there is an NVIDIA driver, so that installing what needs one is a remedy.
    """
    try:
        said = ask(_SMOKE, name, timeout=_SMOKE_TIMEOUT)
    except ProbeError as error:
        if not is_installed(ENGINES[name]):
            return Row(name, "absent", f"{ENGINES[name]} is not installed")
        return Row(name, "broken", f"did not run: {error}", _ABOVE)
    row = judge(name, said)
    return row if gpu or name in ON_CPU else replace(row, remedy="")


def judge(name: str, said: dict[str, Any]) -> Row:
    """The row of an engine of which `said` is `smoke`'s answer."""
    runs = said["precisions"]
    ran = {precision: run for precision, run in runs.items() if "frame_ms" in run}
    faults = {precision: run["fault"] for precision, run in runs.items() if "fault" in run}
    if faults:
        told = "; ".join(f"{precision}: {why}" for precision, why in faults.items())
        return Row(name, "broken", told, _ABOVE, said)
    if not ran:
        # Of the plainest precision; the others' obstacles may be their own.
        what, _, remedy = next(iter(runs.values()))["obstacle"].partition(": ")
        return Row(name, "absent", what, remedy, said)
    first = next(iter(ran.values()))
    times = ", ".join(f"{precision} {run['frame_ms']:.1f} ms a frame" for precision, run in ran.items())
    about = f"{first['version'].split('-')[0]}, {first['device']}; {said['bundle']}: {times}; boxes as stored"
    return Row(name, "ok", about, facts=said)
