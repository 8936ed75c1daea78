"""Rooms inside the runtime: no circle between what commands share, what gives frames, and the command."""

import ast
from pathlib import Path

import pytest

RUNTIME = Path(__file__).parents[2] / "runtime"
ALLOWED = {
    "command": {"errors"},
    "video": {"command", "errors"},
    "trtrun": {"bundle", "command", "cuda", "engines", "errors", "tracker", "video"},
}


@pytest.mark.parametrize("room", ALLOWED)
def test_a_room_imports_only_what_lies_below_it(room: str) -> None:
    wrong = []
    for path in sorted((RUNTIME / room).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("jntrt."):
                parts = str(node.module).split(".")
                if parts[1] != "runtime" or parts[2] not in ALLOWED[room] | {room}:
                    wrong.append(f"{path.relative_to(RUNTIME)}: {node.module}")
    assert not wrong
