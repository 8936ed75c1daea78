"""Which of the libraries that jntrt names are here, in versions that it takes, and whether they load."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, requires, version

from jntrt.runtime.trtrun.doctor.child import ProbeError, ask
from jntrt.runtime.trtrun.doctor.rows import Row

_PROBES = "jntrt.runtime.trtrun.doctor.probes"
ENGINES = ("cpu", "gpu", "trt", "rtx")  # extras whose libraries are tried one by one
COMMANDS = ("export", "calib", "bench", "train")  # extras of which a row says whether they are whole

# Modules whose names are not their distributions'; an empty one holds no module to import.
_MODULES = {
    "opencv-python-headless": "cv2",
    "pyyaml": "yaml",
    "cuda-bindings": "cuda.bindings.driver",
    "nvidia-cuda-nvrtc": "",
    "nvidia-cublas": "",
    "onnxruntime-gpu": "onnxruntime",
    "tensorrt-rtx": "tensorrt_rtx",
}
# The same module under another distribution's name, which is looked for in this order.
_STAND_INS = {
    "onnxruntime": ("onnxruntime-gpu",),
    "tensorrt": ("tensorrt-cu12", "tensorrt-cu13"),
    "nvidia-cuda-nvrtc": ("nvidia-cuda-nvrtc-cu12", "nvidia-cuda-nvrtc-cu13"),
    "nvidia-cublas": ("nvidia-cublas-cu12", "nvidia-cublas-cu13"),
}
# Of these too, but where one is installed beside the named one, its files have won.
_OVERWRITING = {
    "opencv-python-headless": ("opencv-contrib-python", "opencv-python", "opencv-contrib-python-headless")
}
_REQUIREMENT = re.compile(r"([\w.-]+)(?:\[[^]]*\])?\s*([^;]*)(?:;.*extra\s*==\s*['\"]([\w-]+)['\"])?")


@dataclass(frozen=True)
class Requirement:
    """A distribution that jntrt's metadata names, its range (`>=1.22,<2`), and the extra, "" for none."""

    name: str
    range: str
    extra: str

    @property
    def install(self) -> str:
        return (
            f"pip install 'jntrt[{self.extra}]'" if self.extra else f"pip install '{self.name}{self.range}'"
        )

    def old(self, found: str) -> bool:
        """Whether the version `found` is under the range."""
        least = re.search(r">=\s*([\w.]+)", self.range)
        return least is not None and _numbers(found) < _numbers(least[1])

    def new(self, found: str) -> bool:
        """Whether the version `found` is above the range."""
        most = re.search(r"<\s*([\d.]+)", self.range)
        return most is not None and _numbers(found) >= _numbers(most[1])


@cache
def requirements() -> tuple[Requirement, ...]:
    """What the installed jntrt's metadata asks for; empty where it is only imported."""
    try:
        texts = requires("jntrt") or []
    except PackageNotFoundError:
        return ()
    parts = [match.groups("") for text in texts if (match := _REQUIREMENT.match(text))]
    return tuple(Requirement(name.lower(), wanted.strip(" ()"), extra) for name, wanted, extra in parts)


def library_rows(*, gpu: bool) -> Iterator[Row]:
    """A row for each library of the plain install and of the engines.

    gpu: there is an NVIDIA driver, so that installing what needs one is a remedy.
    """
    wanted: dict[str, Requirement] = {}
    for requirement in requirements():
        if requirement.extra in ("", *ENGINES):
            wanted.setdefault(requirement.name, requirement)
    with ThreadPoolExecutor(2) as pool:
        for requirement, row in zip(wanted.values(), pool.map(_library, wanted.values()), strict=True):
            idle = row.state == "absent" and not gpu and requirement.extra != "cpu"
            yield replace(row, remedy="") if idle else row
    if _installed("onnxruntime") and _installed("onnxruntime-gpu"):
        yield Row(
            "onnxruntime, twice",
            "broken",
            "onnxruntime and onnxruntime-gpu lie in one folder: one has overwritten files of the other",
            "pip uninstall onnxruntime onnxruntime-gpu, then pip install 'jntrt[gpu]' (or 'jntrt[cpu]')",
        )


def command_rows() -> Iterator[Row]:
    """For each command beside trtrun: whether the libraries of its extra are here (they are not loaded)."""
    for extra in COMMANDS:
        mine = [requirement for requirement in requirements() if requirement.extra == extra]
        missing = [r.name for r in mine if not _provider(r)]
        old = [r.name for r in mine if (found := _provider(r)) and r.old(found[1])]
        told = [f"without {', '.join(missing)}"] * bool(missing) + [f"too old: {', '.join(old)}"] * bool(old)
        yield Row(
            f"{extra}-jn",
            "old" if old else "absent" if missing else "ok",
            "; ".join(told) or "its libraries are installed",
            f"pip install --upgrade 'jntrt[{extra}]'" if told else "",
        )


def _library(requirement: Requirement) -> Row:
    name, remedy = requirement.name, requirement.install
    found = _provider(requirement)
    module = _MODULES.get(name, name.replace("-", "_"))
    facts = {"distribution": found[0] if found else None, "version": found[1] if found else None}
    if found is None and requirement.extra:
        return Row(name, "absent", "not installed", remedy, facts)
    try:  # of the plain install also one that came without metadata, from a system's packages
        loaded = ask(_PROBES, "version", module)["version"] if module else None
    except ProbeError as error:
        return Row(name, "broken", f"does not load: {error}", _mend(name, str(error), found), facts)
    shown = found[1] if found else loaded or "unknown version"
    other = f" ({found[0]})" if found and found[0] != name else ""
    if requirement.old(shown):
        upgrade = f"pip install --upgrade '{name}{requirement.range}'"
        return Row(name, "old", f"{shown}{other}, needs {requirement.range}", upgrade, facts)
    if requirement.new(shown):
        change = f"pip install '{name}{requirement.range}'"
        return Row(name, "broken", f"{shown}{other} is too new, takes {requirement.range}", change, facts)
    return Row(name, "ok", shown + other, facts=facts)


def _mend(name: str, reason: str, found: tuple[str, str] | None) -> str:
    if name == "opencv-python-headless" and re.search(r"lib(GL|EGL|gthread|glib|SM|Xext|Xrender)\b", reason):
        other = found[0] if found else "opencv-python"
        return f"pip uninstall {other}, then pip install --force-reinstall {name}"
    return f"pip install --force-reinstall '{found[0] if found else name}'"


def is_installed(name: str) -> bool:
    """Whether a library of the metadata is here, under its own name or a stand-in's."""
    return any(_provider(requirement) for requirement in requirements() if requirement.name == name)


def _provider(requirement: Requirement) -> tuple[str, str] | None:
    """Distribution and version that bring the library, or None."""
    named = requirement.name
    for name in (*_OVERWRITING.get(named, ()), named, *_STAND_INS.get(named, ())):
        if found := _installed(name):
            return name, found
    return None


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _numbers(text: str) -> tuple[int, ...]:
    """`1.22.0rc1` as (1, 22): numbers of the release, without zeros at its end."""
    release = re.match(r"[\d.]*", text)
    numbers = [int(part) for part in (release[0] if release else "").split(".") if part]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)
