"""Who may import whom, at the level of rooms (folders and modules of a sub-package), no circles, light help.

A string that names a module of ours (a program started with -m, an entry of a table) is an arrow too.
"""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ALLOWED = {
    "runtime": set(),
    "export": {"runtime"},
    "bench": {"runtime", "export.families", "export.checkpoint", "export.onnx", "export.rules"},
    "calib": {"runtime", "bench.sequences", "export.rules", "export.onnx"},
    "train": {
        *("runtime", "export.families", "export.checkpoint", "export.bounded_yaml", "bench.sequences"),
        "export.pipeline",
    },
}
# Whole commands that are run as a user would run them.
STARTED = {("bench.gpu", "export.cli"), ("bench.gpu", "calib.cli")}
HEAVY = {
    "torch",
    "onnx",
    "onnxruntime",
    "openvino",
    "cv2",
    "av",
    "timm",
    "torchvision",
    "matplotlib",
    "tensorrt",
}
_NAMED = re.compile(r"jntrt\.[a-z_]+(\.\w+)+(?=:|$)")


def imports(path: Path, *, typing: bool = True) -> set[str]:
    """Every module that the file imports or names, functions included; typing: for type checkers too."""
    package = ["jntrt", *path.relative_to(ROOT).parent.parts]
    found = set()
    tree = ast.parse(path.read_text())
    skipped: set[ast.AST] = set()
    documentation = {
        node.body[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            skipped |= set() if typing else {inner for part in node.body for inner in ast.walk(part)}
    for node in ast.walk(tree):
        if node in skipped or node in documentation:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            found |= {f"{module}.{a.name}" if is_module(f"{module}.{a.name}") else module for a in node.names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            named = _NAMED.match(node.value)
            found |= {named[0]} if named and is_module(named[0]) else set()
    return found


def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split(".")[1:])
    return name.startswith("jntrt.") and (path.is_dir() or path.with_suffix(".py").is_file())


def room(module: str) -> str:
    """`runtime.engines` of `jntrt.runtime.engines.tensorrt.build`; a family's own folder is its room."""
    parts = module.split(".")[1:]
    return ".".join(parts[: 3 if parts[:2] == ["export", "families"] else 2])


def files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(("jntrt", *(parts[:-1] if parts[-1] == "__init__" else parts)))


def inside(module: str, allowed: set[str]) -> bool:
    target = module.removeprefix("jntrt.")
    return any(target == ok or target.startswith(ok + ".") for ok in allowed)


@pytest.mark.parametrize("folder", ALLOWED)
def test_sub_packages_import_only_what_the_design_allows(folder):
    wrong = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in files(folder)
        for name in imports(path)
        if name.startswith("jntrt.")
        and name.split(".")[1] != folder
        and not inside(name, ALLOWED[folder])
        and (room(module_of(path)), room(name)) not in STARTED
    ]
    assert not wrong


def test_only_training_imports_objectives():
    """A family's loss and targets are training's alone: export and bench run without them."""
    wrong = [
        f"{path.relative_to(ROOT)}: {name}"
        for folder in ("runtime", "export", "bench", "calib")
        for path in files(folder)
        for name in imports(path)
        if name.endswith(".objective") and not room(module_of(path)).startswith("export.families.")
    ]
    assert not wrong


@pytest.mark.parametrize("folder", ALLOWED)
def test_rooms_form_no_circle(folder):
    arrows: dict[str, set[str]] = {}
    for path in files(folder):
        here = room(module_of(path))
        targets = {room(name) for name in imports(path, typing=False) if name.startswith(f"jntrt.{folder}")}
        arrows.setdefault(here, set()).update(targets - {here, folder})
    arrows.pop(folder, None)  # the sub-package's own lazy names
    done: list[str] = []

    def visit(name: str, way: list[str]) -> None:
        assert name not in way, " → ".join([*way[way.index(name) :], name])
        if name not in done:
            for target in sorted(arrows.get(name, ())):
                visit(target, [*way, name])
            done.append(name)

    for name in sorted(arrows):
        visit(name, [])


def test_the_runtime_never_imports_torch_or_onnx():
    wrong = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in files("runtime")
        for name in imports(path)
        if name.split(".")[0] in {"torch", "onnx", "torchvision", "timm"}
    ]
    assert not wrong


@pytest.mark.parametrize("folder", ALLOWED)
def test_commands_import_nothing_heavy_at_the_top(folder):
    path = ROOT / folder / ("trtrun/cli.py" if folder == "runtime" else "cli.py")
    top = ast.Module(
        [n for n in ast.parse(path.read_text()).body if isinstance(n, ast.Import | ast.ImportFrom)], []
    )
    names = {a.name for n in top.body if isinstance(n, ast.Import) for a in n.names}
    names |= {n.module for n in top.body if isinstance(n, ast.ImportFrom) and n.module}
    assert not {name.split(".")[0] for name in names} & HEAVY


@pytest.mark.parametrize("folder", ["runtime", "export", "bench", "calib", "train"])
def test_no_folder_is_a_hall(folder):
    """At most about twelve modules beside each other."""
    folders = {path.parent for path in files(folder)}
    full = {str(f.relative_to(ROOT)): len(list(f.glob("[!_]*.py"))) for f in folders}
    assert max(full.values()) <= 13, full
