"""`import jntrt`: its names, its version, and that it stays light."""

import importlib
import subprocess
import sys

import jntrt


def test_names_are_found_and_listed():
    for name in jntrt.__all__:
        assert getattr(jntrt, name) is not None
        assert name in dir(jntrt)
    from jntrt.runtime.tracker import Tracker

    assert jntrt.Tracker is Tracker


def test_the_runtime_s_names_are_found_documented_and_listed():
    runtime = importlib.import_module("jntrt.runtime")
    assert {"Tracker", "frames", "annotate", "VideoWriter"} <= set(dir(runtime))
    for name in runtime.__all__:
        assert name in dir(runtime)
        assert getattr(runtime, name).__doc__


def test_importing_it_loads_nothing_heavy():
    code = (
        "import sys, jntrt, jntrt.runtime;"
        "heavy = {'numpy', 'cv2', 'av', 'torch', 'onnxruntime', 'openvino'} & set(sys.modules);"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
