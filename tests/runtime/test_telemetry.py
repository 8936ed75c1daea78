"""Engines look nobody up, start no process of their own and leave no file in the user's folders."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

# Writes down the hosts that a process, or one that it started, looks up, connects to or writes to.
WITNESS = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void note(const char *text) {
  int file = open(getenv("WITNESS"), O_WRONLY | O_APPEND | O_CREAT, 0600);
  if (file >= 0) { dprintf(file, "%s\n", text); close(file); }
}
int getaddrinfo(const char *host, const char *service, const struct addrinfo *hints,
                struct addrinfo **found) {
  int (*next)(const char *, const char *, const struct addrinfo *, struct addrinfo **) =
      dlsym(RTLD_NEXT, "getaddrinfo");
  note(host ? host : "(none)");
  return next(host, service, hints, found);
}
int connect(int handle, const struct sockaddr *to, socklen_t length) {
  int (*next)(int, const struct sockaddr *, socklen_t) = dlsym(RTLD_NEXT, "connect");
  if (to->sa_family == AF_INET || to->sa_family == AF_INET6) note("connect");
  return next(handle, to, length);
}
pid_t fork(void) {
  pid_t (*next)(void) = dlsym(RTLD_NEXT, "fork");
  note("fork");
  return next();
}
"""

TRACK = """
import socket, sys, time
import numpy as np
from jntrt.runtime import Tracker
from jntrt.runtime.bundle import default_bundle
frame = np.random.default_rng(0).integers(0, 255, (120, 160, 3), np.uint8)
with Tracker.from_bundle(default_bundle(), sys.argv[1], "fp32", 1) as tracker:
    tracker.init(frame, (60, 40, 30, 30))
    end = time.monotonic() + float(sys.argv[2])
    while time.monotonic() < end:
        tracker.update(frame)
        time.sleep(0.1)
try:
    socket.getaddrinfo("our-own.invalid", 80)
except OSError:
    pass
"""


@pytest.fixture(scope="module")
def witness(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("looking at a process's look-ups needs Linux and a C compiler")
    folder = tmp_path_factory.mktemp("witness")
    (folder / "witness.c").write_text(WITNESS)
    command = [compiler, "-shared", "-fPIC", "-w", "-o", folder / "witness.so", folder / "witness.c", "-ldl"]
    subprocess.run(command, check=True)
    return folder / "witness.so"


def run(
    witness: Path, folder: Path, backend: str, seconds: float = 2, **more: str
) -> tuple[list[str], list[str]]:
    """What the process looked up or started, and the files that it left in the user's folder."""
    home = folder / "home"
    home.mkdir()
    # CI: OpenVINO is silent by itself where it takes the machine for a build server.
    left = {name: value for name, value in os.environ.items() if name not in ("CI", "ORT_DISABLE_TELEMETRY")}
    places = {f"XDG_{kind}_HOME": str(home / kind) for kind in ("CACHE", "CONFIG", "DATA", "STATE")}
    witnessed = {"LD_PRELOAD": str(witness), "WITNESS": str(folder / "seen"), "HOME": str(home)}
    environment = left | places | witnessed | more
    command = [sys.executable, "-c", TRACK, backend, str(seconds)]
    subprocess.run(command, env=environment, check=True, timeout=120)
    seen = (folder / "seen").read_text().split()
    return seen, [str(file.relative_to(home)) for file in home.rglob("*") if file.is_file()]


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize(
    "seconds",
    # ONNX Runtime writes its files at once and looks its host up after some seconds.
    [2, pytest.param(20, marks=pytest.mark.slow)],
)
def test_engines_are_silent(witness: Path, tmp_path: Path, backend: str, seconds: float) -> None:
    # The one that the script makes itself: so the witness does look.
    assert run(witness, tmp_path, backend, seconds) == (["our-own.invalid"], [])


def test_what_the_user_says_stays(witness: Path, tmp_path: Path) -> None:
    _, files = run(witness, tmp_path, "onnxruntime", ORT_DISABLE_TELEMETRY="0")
    assert files, "telemetry that was asked for was switched off"
