"""YAML of strangers: the plain part is read as PyYAML reads it, the rest ends in one line."""

from pathlib import Path
from time import perf_counter

import pytest
import yaml

from jntrt.export.bounded_yaml import read_table
from jntrt.runtime.errors import UserError

CONFIGS = sorted((Path(__file__).parents[1] / "data" / "golden").rglob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.parent.name)
def test_experiment_files_read_as_yaml_says(path: Path) -> None:
    assert read_table(path, "--config") == yaml.safe_load(path.read_text())


def test_plain_values(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(
        "a: [1, -2, 0.5, 1e-3, .5, 'yes', yes, No, ~]\nb:\n  c: some text\n  010: 1:30\nd:\ne: {f: '1'}\n"
    )
    assert read_table(file, "--config") == {
        "a": [1, -2, 0.5, 1e-3, 0.5, "yes", True, False, None],
        "b": {"c": "some text", "010": "1:30"},
        "d": None,
        "e": {"f": "1"},
    }


LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40))


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("a: !!bool xyz", "line 1: a tag"),
        ("a: !!python/object/apply:os.system [ls]", "a tag"),
        ("a: !!timestamp 9999-99-99", "a tag"),
        (LAUGHS, "an anchor or alias"),
        ("a: &a [*a]", "an anchor or alias"),
        ("<<: *x", "an anchor or alias"),
        ("a: 1\na: 2", "line 2: 'a' for the second time"),
        ("? [1, 2]\n: 3", "a key that is no short text"),
        ("a: " + "[" * 200 + "]" * 200, "deeper than 16"),
        ("a: " + "[" * 5000, "no YAML|deeper"),
        ("a: 1\n---\nb: 2", "second document"),
        ("a: " + "x" * 2000, "more than 1000 characters"),
        ("- " * 3 + "1", "no table"),
        ("", "no table"),
        ("a: [1, 2", "no YAML"),
        ("a: '\x07'", "no YAML"),
        ("\n".join(f"k{n}: 1" for n in range(26_000)), "larger than|more than"),
        ("#" * 300_000, "larger than 256 kB"),
    ],
)
def test_the_rest_is_refused(tmp_path: Path, content: str, complaint: str) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(content)
    start = perf_counter()
    with pytest.raises(UserError, match=complaint) as caught:
        read_table(file, "--config")
    assert perf_counter() - start < 15
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("number", ["1:" + "59:" * 300 + "1", "9" * 400, "1e999", "0x" + "f" * 900, ".inf"])
def test_giants_are_text(tmp_path: Path, number: str) -> None:
    """PyYAML makes numbers of them, of thousands of digits or of none; here they are no numbers."""
    (tmp_path / "a.yaml").write_text(f"a: {number}")
    assert read_table(tmp_path / "a.yaml", "--config") == {"a": number}


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"a: \xff\xfe")
    with pytest.raises(UserError, match="no YAML"):
        read_table(tmp_path / "a.yaml", "--config")
    with pytest.raises(UserError, match="cannot be read"):
        read_table(tmp_path, "--config")
