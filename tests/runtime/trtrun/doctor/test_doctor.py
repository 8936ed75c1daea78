"""trtrun doctor: what it says of this machine, of broken libraries and of GPUs that are not here."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from jntrt.runtime import engines
from jntrt.runtime.trtrun.doctor import examine, libraries, report
from jntrt.runtime.trtrun.doctor.child import ProbeError, ask
from jntrt.runtime.trtrun.doctor.libraries import Requirement
from jntrt.runtime.trtrun.doctor.rows import Row, lines

DOCTOR = [sys.executable, "-P", "-m", "jntrt.runtime.trtrun.doctor"]


def examined(*, code: int, **environment: str) -> dict[str, Any]:
    """The JSON report of a doctor whose environment has these variables, rows by section and name."""
    done = subprocess.run(
        [*DOCTOR, "--json"], capture_output=True, text=True, env={**os.environ, **environment}, check=False
    )
    assert (done.returncode, done.stderr) == (code, "")
    said: dict[str, Any] = json.loads(done.stdout)
    return said | {"rows": {(row["section"], row["name"]): row for row in said["rows"]}}


def test_engines_that_are_here_track_for_a_second_and_compute_what_the_bundle_stores() -> None:
    said = examined(code=0)
    for name in engines.ON_CPU:
        row = said["rows"]["Engines", name]
        assert row["state"] == "ok"
        fp32 = row["facts"]["precisions"]["fp32"]
        assert fp32["frames"] * fp32["frame_ms"] == pytest.approx(1000, rel=0.5)
        assert fp32["difference"]["box"] <= fp32["difference"]["allowed"]
    assert set(said["tracks_with"]) >= set(engines.ON_CPU)
    assert said["rows"]["Packaged bundles", "nanotrack-v3"]["state"] == "ok"
    assert "libx264" in said["rows"]["Video and display", "FFmpeg"]["facts"]["encoders"]
    assert said["rows"]["Libraries", "crop"]["facts"]["native"]


def test_broken_libraries_are_rows(tmp_path: Path) -> None:
    """One that raises, one that ends the process, and two that every other room needs."""
    libgl = "libGL.so.1: cannot open shared object file: No such file or directory"
    for name, code in {
        "cv2": f"raise ImportError({libgl!r})",
        "openvino": "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
        "numpy": "raise RuntimeError('built for\\nanother CPU')",
        "cyclopts": "raise ImportError('half of it is missing')",
    }.items():
        (tmp_path / f"{name}.py").write_text(code)
    said = examined(code=2, PYTHONPATH=str(tmp_path))
    rows = said["rows"]
    assert said["tracks_with"] == []
    opencv = rows["Libraries", "opencv-python-headless"]
    assert (opencv["state"], opencv["detail"]) == ("broken", f"does not load: ImportError: {libgl}")
    assert "pip install --force-reinstall opencv-python-headless" in opencv["remedy"]
    assert rows["Libraries", "openvino"]["detail"] == "does not load: crashed (SIGSEGV)"
    assert rows["Libraries", "numpy"]["detail"] == "does not load: RuntimeError: built for another CPU"
    assert rows["Libraries", "cyclopts"]["state"] == "broken"
    assert rows["Engines", "onnxruntime"]["state"] == "broken"  # its NumPy does not load
    assert not libraries.is_installed("tensorrt")
    assert rows["Engines", "tensorrt"]["state"] == "absent"  # nobody's fault but its own
    assert rows["Libraries", "rich"]["state"] == rows["Machine", "Python"]["state"] == "ok"


def test_a_child_that_hangs_or_says_nothing_is_told() -> None:
    with pytest.raises(ProbeError, match="no answer within 1 s"):
        ask("http.server", "0", timeout=1)
    with pytest.raises(ProbeError, match="No module named"):
        ask("jntrt.runtime.trtrun.doctor.nobody")
    with pytest.raises(ProbeError, match="KeyError"):
        ask("jntrt.runtime.trtrun.doctor.probes", "nothing")


LIBCUDA = """
#include <string.h>
int cuInit(unsigned flags) { return STATUS; }
int cuDriverGetVersion(int *version) { *version = VERSION; return 0; }
int cuDeviceGetCount(int *count) { *count = 1; return 0; }
int cuDeviceGet(int *device, int ordinal) { *device = ordinal; return 0; }
int cuDeviceGetName(char *name, int length, int device) { strncpy(name, "GPU of a test", length); return 0; }
int cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = (size_t)11 << 30; return 0; }
int cuDeviceGetAttribute(int *value, int which, int device) { *value = which == 75 ? MAJOR : 5; return 0; }
"""


def gpu_rows(folder: Path, monkeypatch: pytest.MonkeyPatch, **defined: int) -> list[Row]:
    """The NVIDIA rows with a driver that says these things."""
    source = folder / "cuda.c"
    source.write_text(LIBCUDA)
    words = [f"-D{name}={value}" for name, value in defined.items()]
    compiler = shutil.which("cc") or shutil.which("gcc")
    assert compiler
    subprocess.run(
        [compiler, "-shared", "-fPIC", *words, str(source), "-o", folder / "libcuda.so.1"], check=True
    )
    monkeypatch.setenv("LD_LIBRARY_PATH", str(folder))
    return list(examine._nvidia(examine._gpus()))


def test_gpus_and_drivers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver, gpu = gpu_rows(tmp_path, monkeypatch, STATUS=0, VERSION=13000, MAJOR=7)
    assert (driver.state, driver.detail) == ("ok", "CUDA 13.0")
    assert (gpu.name, gpu.state) == ("GPU of a test", "ok")
    assert gpu.detail == "compute capability 7.5, 11 GiB"
    driver, gpu = gpu_rows(tmp_path, monkeypatch, STATUS=0, VERSION=12040, MAJOR=6)
    assert (driver.state, gpu.state) == ("old", "old")
    assert "CUDA 12.4" in driver.detail
    assert "580" in driver.remedy
    driver, none = gpu_rows(tmp_path, monkeypatch, STATUS=100, VERSION=13000, MAJOR=7)
    assert (driver.state, none.state) == ("ok", "absent")
    (driver,) = gpu_rows(tmp_path, monkeypatch, STATUS=999, VERSION=13000, MAJOR=7)
    assert driver.state == "broken"
    assert "999" in driver.detail


def test_versions_against_ranges() -> None:
    wanted = Requirement("tensorrt", ">=10.13,<12", "trt")
    assert wanted.old("10.9.0.34")
    assert wanted.old("10.12")
    assert not wanted.old("10.13")
    assert not wanted.old("11.0rc1")
    assert wanted.new("12.0")
    assert not wanted.new("11.9.9")
    assert wanted.install == "pip install 'jntrt[trt]'"
    assert not Requirement("rich", ">=13", "").old("13.0.0")


def test_the_metadata_is_what_the_rows_are_made_of() -> None:
    found = {(requirement.name, requirement.extra): requirement for requirement in libraries.requirements()}
    assert found["numpy", ""].range == ">=1.26"
    assert found["onnxruntime-gpu", "gpu"].range == ">=1.28"
    assert {"<12", ">=10.3"} == set(found["tensorrt", "trt"].range.split(","))


def test_an_old_library_and_two_that_overwrite_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = {"onnxruntime": "1.20.1", "onnxruntime-gpu": "1.25.0", "opencv-python": "4.12.0.88"}
    monkeypatch.setattr(libraries, "_installed", installed.get)
    monkeypatch.setattr(libraries, "ask", lambda *words: {"version": "4.12.0"})
    rows = {row.name: row for row in libraries.library_rows(gpu=False)}
    assert rows["onnxruntime"].state == "old"
    assert rows["onnxruntime"].remedy == "pip install --upgrade 'onnxruntime>=1.22'"
    assert rows["onnxruntime, twice"].state == "broken"
    assert rows["opencv-python-headless"].detail == "4.12.0.88 (opencv-python)"
    assert (rows["openvino"].state, rows["openvino"].remedy) == ("absent", "pip install 'jntrt[cpu]'")
    assert (rows["tensorrt"].state, rows["tensorrt"].remedy) == ("absent", "")  # no GPU here
    bench = next(row for row in libraries.command_rows() if row.name == "bench-jn")
    assert bench.state == "old"
    assert "matplotlib" in bench.detail


def test_an_engine_is_judged_by_what_it_did() -> None:
    ran = {"frames": 9, "frame_ms": 3.0, "version": "1.31-x", "device": "CPU"}
    good = examine.judge("openvino", {"bundle": "b", "precisions": {"fp32": ran, "bf16": {"obstacle": "no"}}})
    assert (good.state, good.detail) == ("ok", "1.31, CPU; b: fp32 3.0 ms a frame; boxes as stored")
    wrong = examine.judge("openvino", {"bundle": "b", "precisions": {"fp32": ran, "bf16": {"fault": "off"}}})
    assert (wrong.state, wrong.detail) == ("broken", "bf16: off")
    absent = examine.judge("x", {"bundle": "b", "precisions": {"fp32": {"obstacle": "not here: pip it"}}})
    assert (absent.state, absent.detail, absent.remedy) == ("absent", "not here", "pip it")


def test_engines_are_those_of_the_runtime() -> None:
    assert list(engines.BACKENDS) == list(examine.ENGINES)
    assert engines.ON_CPU == examine.ON_CPU


def test_the_last_line_says_what_to_do_first() -> None:
    absent = Row("onnxruntime", "absent", "onnxruntime is not installed", "pip install 'jntrt[cpu]'")
    found = {"Libraries": [], "Packaged bundles": [], "Engines": [absent]}
    assert report.verdict(found).endswith("no engine is installed (pip install 'jntrt[cpu]')")
    found["Libraries"] = [Row("numpy", "broken", "does not load", "pip install numpy")]
    assert report.verdict(found) == "nothing tracks here: numpy is broken (pip install numpy)"
    found["Engines"] = [Row("openvino", "ok", "")]
    assert report.verdict(found) == "trtrun tracks here with openvino"


def test_rows_fit_a_terminal() -> None:
    told = lines(Row("opencv-python-headless", "broken", "word " * 40, "pip install " + "word " * 30))
    assert max(map(len, told)) <= 80
    assert any("→ pip install" in line for line in told)
