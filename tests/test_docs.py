"""The documents name what is there: files, folders and targets of make."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = "runtime|export|bench|calib|train|tests|examples|docs"
PATH = re.compile(rf"(?<![\w/.-])(?:{FOLDERS})/[\w./-]*\w/?|(?<=\]\()[\w./-]+(?=[)#])")
MADE = {"export/families/NAME/"}  # a place for what there is not yet


def paths_in(text: str) -> list[str]:
    return [path for path in PATH.findall(text) if path not in MADE]


@pytest.mark.parametrize("document", ["ARCHITECTURE.md", "CONTRIBUTING.md", "README.md", "Makefile"])
def test_paths_in_the_documents_exist(document: str) -> None:
    named = paths_in((ROOT / document).read_text())
    assert len(named) >= 2
    assert not [path for path in named if not (ROOT / path).exists()]


@pytest.mark.parametrize("document", ["ARCHITECTURE.md", "CONTRIBUTING.md", "README.md"])
def test_targets_of_make_exist(document: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)", (ROOT / document).read_text(), re.MULTILINE))
    assert named <= targets


@pytest.mark.parametrize("document", sorted((ROOT / "docs").glob("*.md")), ids=lambda path: str(path.name))
def test_paths_in_the_how_tos_exist(document: Path) -> None:
    """Links are from the page, all else from the root."""
    named = paths_in(document.read_text())
    assert not [
        path for path in named if not (ROOT / path).exists() and not (document.parent / path).exists()
    ]


def test_what_the_architecture_names_in_the_code_is_there() -> None:
    """Names in backticks that are no paths: each is written somewhere in the sub-packages."""
    names = re.findall(r"`([A-Za-z_]\w+)`", (ROOT / "ARCHITECTURE.md").read_text())
    code = "\n".join(
        path.read_text()
        for folder in ("runtime", "export", "bench", "calib", "train")
        for path in (ROOT / folder).rglob("*.py")
    )
    assert len(names) > 10
    assert not [name for name in set(names) if not re.search(rf"\b{name}\b", code)]
