"""Who may import whom (the arrows between the sub-packages), and that `--help` stays light."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ALLOWED = {
    "runtime": set(),
    "export": {"runtime"},
    "bench": {"runtime", "export"},
    "calib": {"runtime", "bench", "export.rules", "export.onnx"},
    "train": {"runtime", "bench.sequences", "export.families"},
}
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


def imports(path: Path) -> set[str]:
    """Every module that the file imports, with relative imports made absolute; functions included."""
    package = ["jntrt", *path.relative_to(ROOT).parent.parts]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            found |= {f"{module}.{alias.name}" for alias in node.names} | {module}
    return found


def files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("folder", ALLOWED)
def test_sub_packages_import_only_what_the_design_allows(folder):
    wrong = []
    for path in files(folder):
        for name in imports(path):
            parts = name.split(".")
            if parts[0] != "jntrt" or len(parts) < 2 or parts[1] == folder:
                continue
            target = ".".join(parts[1:])
            if not any(target == ok or target.startswith(ok + ".") for ok in ALLOWED[folder]):
                # "from jntrt.export import networks" also yields its parent: only the full name counts
                if any(ok.startswith(target + ".") for ok in ALLOWED[folder]) and any(
                    other.startswith(name + ".") for other in imports(path)
                ):
                    continue
                wrong.append(f"{path.relative_to(ROOT)}: {name}")
    assert not wrong


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
