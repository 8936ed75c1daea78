"""Bundles: written whole, read with suspicion."""

import copy
import fcntl
import json
import os
import random
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from golden_conventions import CENTRE, NANOTRACK, NANOTRACK_SECTIONS

from jntrt.runtime.bundle import Bundle, add_precision, is_bundle, write_bundle
from jntrt.runtime.bundle.conventions import Clip, CropSpec, StateInput, StateSpec
from jntrt.runtime.errors import UserError

MANIFEST: dict[str, Any] = {
    "format": 1,
    "name": "tiny",
    "family": "jn",
    "batch": 1,
    "weights": "untrained",
    "recipe": {"family": "jn"},
    "template": {"size": 64, "factor": 2.0, "context": "area", "border": "zero"},
    "search": {"size": 128, "factor": 4.0, "context": "area", "border": "zero"},
    "presence_threshold": 0.25,
    "precisions": {"fp32": {"template": {"file": "template.onnx"}, "track": {"file": "track.onnx"}}},
    "inputs": [{"graph": "track", "name": "search", "dtype": "uint8", "shape": [1, 128, 128, 3]}],
    "somebody": {"else's": "key"},
}
FILES = {"template.onnx": b"one", "track.onnx": b"two", "parity.npz": b"three"}


def manifest(**changes: Any) -> dict[str, Any]:
    return {**copy.deepcopy(MANIFEST), **changes}


def rewrite(folder: Path, content: object) -> None:
    (folder / "bundle.json").write_text(json.dumps(content))


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return write_bundle(tmp_path / "tiny", MANIFEST, FILES)


def test_what_is_written_is_read(bundle: Bundle) -> None:
    assert (bundle.name, bundle.batch, bundle.family) == ("tiny", 1, "jn")
    assert (bundle.template.size, bundle.search.factor) == (64, 4.0)
    assert bundle.precisions == ("fp32",)
    assert bundle.graph("track", "fp32").read_bytes() == b"two"
    assert bundle.parity().read_bytes() == b"three"
    assert bundle.takes("track", "search")
    assert not bundle.takes("template", "target_box")
    assert bundle.manifest["somebody"] == {"else's": "key"}
    assert len(bundle.verify()) == 3


def test_conventions_are_ostracks_where_nothing_is_said(bundle: Bundle) -> None:
    assert bundle.template == CropSpec(64, 2.0)
    assert bundle.state == StateSpec(Clip.BOX, 10.0, 0.0)
    assert bundle.state_inputs == {}


def test_conventions_are_read(bundle: Bundle) -> None:
    inputs = [*MANIFEST["inputs"], {"graph": "track", "name": "previous_size"}]
    rewrite(bundle.path, {**bundle.manifest, **NANOTRACK_SECTIONS, "inputs": inputs})
    opened = Bundle.open(bundle.path)
    assert (opened.template, opened.search) == (replace(NANOTRACK, size=127), NANOTRACK)
    assert (opened.state, opened.state_inputs) == (CENTRE, {"previous_size": StateInput.SIZE})
    assert str(opened.search) == "255 px, padded context"


def test_places(tmp_path: Path, bundle: Bundle) -> None:
    (tmp_path / "empty").mkdir()
    assert is_bundle(write_bundle(tmp_path / "empty", MANIFEST, FILES).path)
    again = write_bundle(bundle.path, manifest(name="again"), FILES)
    assert again.name == "again"
    with pytest.raises(UserError, match="is a bundle already"):
        write_bundle(bundle.path, MANIFEST, FILES, overwrite=False)
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters/dear.txt").write_text("keep")
    with pytest.raises(UserError, match="not empty and is no bundle"):
        write_bundle(tmp_path / "letters", MANIFEST, FILES)
    assert (tmp_path / "letters/dear.txt").read_text() == "keep"
    with pytest.raises(UserError, match="is a file"):
        write_bundle(tmp_path / "letters/dear.txt", MANIFEST, FILES)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "letters", "tiny"]


def test_a_failed_write_leaves_what_was_there(tmp_path: Path, bundle: Bundle) -> None:
    for bad in (manifest(batch=0), manifest(precisions={})):
        with pytest.raises(UserError):
            write_bundle(bundle.path, bad, FILES)
    assert Bundle.open(bundle.path).name == "tiny"
    assert [p.name for p in tmp_path.iterdir()] == ["tiny"]


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="cannot be written: File exists"):
        write_bundle(tmp_path / "file/new", MANIFEST, FILES)


def test_precisions_are_added_and_replaced(bundle: Bundle) -> None:
    entry = {
        "template": {"file": "template.onnx"},
        "track": {"file": "track.int8.onnx"},
        "gate": {"passed": True},
    }
    once = add_precision(bundle, "int8", {"track.int8.onnx": b"first"}, entry)
    assert once.precisions == ("fp32", "int8")
    assert once.graph("template", "int8").read_bytes() == b"one"
    assert once.entry("int8")["gate"] == {"passed": True}
    twice = add_precision(once, "int8", {"track.int8.onnx": b"second"}, entry)
    assert twice.graph("track", "int8").read_bytes() == b"second"
    # The first file stood until the manifest no longer named it, and is gone now.
    names = {p.name for p in bundle.path.iterdir()}
    assert "track.int8.onnx" not in names
    assert len(names) == 5
    assert entry["track"] == {"file": "track.int8.onnx"}
    with pytest.raises(UserError, match=r"no precision fp16 \(it has fp32, int8\)"):
        twice.graph("track", "fp16")


def test_what_is_no_part_of_a_bundle_is_not_lost_with_it(bundle: Bundle) -> None:
    (bundle.path / "calibration.json").write_text("{}")
    write_bundle(bundle.path, MANIFEST, FILES)
    (bundle.path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"holds notes\.txt"):
        write_bundle(bundle.path, MANIFEST, FILES)
    assert (bundle.path / "notes.txt").read_text() == "mine"


def test_two_who_add_wait_for_each_other(bundle: Bundle) -> None:
    entry = {"template": {"file": "template.onnx"}, "track": {"file": "track.fp16.onnx"}}
    handle = os.open(bundle.path.parent, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    other = Thread(target=add_precision, args=(bundle, "fp16", {"track.fp16.onnx": b"half"}, entry))
    other.start()
    try:
        other.join(timeout=0.2)
        assert other.is_alive()
        rewrite(bundle.path, bundle.manifest | {"somebody": "changed it meanwhile"})
    finally:
        os.close(handle)
    other.join()
    assert Bundle.open(bundle.path).precisions == ("fp32", "fp16")
    assert Bundle.open(bundle.path).manifest["somebody"] == "changed it meanwhile"


def test_files_that_are_not_what_the_manifest_says(bundle: Bundle) -> None:
    track = bundle.path / "track.onnx"
    track.write_bytes(b"TWO")
    with pytest.raises(UserError, match="sha256 differs"):
        bundle.graph("track", "fp32")
    track.write_bytes(b"twofold")
    with pytest.raises(UserError, match=r"has 7 bytes where bundle\.json says 3"):
        bundle.graph("track", "fp32")
    track.unlink()
    with pytest.raises(UserError, match="is missing"):
        bundle.graph("track", "fp32")
    (bundle.path.parent / "outside.onnx").write_bytes(b"two")
    track.symlink_to(bundle.path.parent / "outside.onnx")
    with pytest.raises(UserError, match="is missing"):
        bundle.graph("track", "fp32")


def test_each_file_is_hashed_though_another_has_its_digest(bundle: Bundle) -> None:
    content = json.loads((bundle.path / "bundle.json").read_text())
    track = content["precisions"]["fp32"]["track"]
    content["precisions"]["fp32"]["template"] = {**track, "file": "other.onnx"}
    (bundle.path / "other.onnx").write_bytes(b"TWO")
    rewrite(bundle.path, content)
    changed = Bundle.open(bundle.path)
    assert changed.graph("track", "fp32").read_bytes() == b"two"
    with pytest.raises(UserError, match="sha256 differs"):
        changed.graph("template", "fp32")


def test_adding_does_not_bless_a_changed_file(bundle: Bundle) -> None:
    (bundle.path / "track.onnx").write_bytes(b"TWO")
    entry = {"template": {"file": "template.onnx"}, "track": {"file": "track.int8.onnx"}}
    changed = add_precision(bundle, "int8", {"track.int8.onnx": b"first"}, entry)
    with pytest.raises(UserError, match="sha256 differs"):
        changed.graph("track", "fp32")


@pytest.mark.parametrize(
    "name", ["track.xml", "../track.onnx", "/etc/passwd", "a/b.onnx", "..", ".hidden", "bundle.json", "", 5]
)
def test_file_names_cannot_leave_the_folder(bundle: Bundle, name: object) -> None:
    content = json.loads((bundle.path / "bundle.json").read_text())
    content["precisions"]["fp32"]["track"]["file"] = name
    rewrite(bundle.path, content)
    with pytest.raises(UserError, match="track"):
        Bundle.open(bundle.path)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"format": 2}, r"bundle format 2 is newer than this jntrt knows \(1\): update jntrt"),
        ({"format": "1"}, "no known format number"),
        ({"batch": True}, "batch must be a whole number"),
        ({"batch": 10**9}, "batch must be a whole number"),
        ({"name": "a\nb"}, "name must be a short text"),
        ({"presence_threshold": 2}, "presence_threshold must be a number 0 … 1"),
        ({"template": {"size": 10**6, "factor": 2.0}}, "template: size must be"),
        ({"template": {"size": 64, "factor": 2.0, "border": "red"}}, "border 'red' needs a newer jntrt"),
        ({"search": {"size": 64, "factor": 2.0, "context": ["area"]}}, "context .* needs a newer jntrt"),
        ({"search": {"size": 64, "factor": 2.0, "corner": "ceil"}}, "corner 'ceil' needs a newer jntrt"),
        ({"state": {"clip": "mirror"}}, "state: clip 'mirror' needs a newer jntrt"),
        ({"state": {"least_size": 0}}, "state: least_size must be a number 1"),
        ({"state": []}, "state: not an object"),
        ({"state_inputs": {"search": "speed"}}, "state_inputs: search 'speed' needs a newer jntrt"),
        ({"state_inputs": {"size": "size"}}, "'size' is no input of the track graph"),
        ({"state_inputs": {"search": "size", "b": "size"}}, "two inputs of one rule"),
        ({"precisions": []}, "precisions: not an object"),
        ({"precisions": {}}, "no precision in it"),
        ({"inputs": [3]}, "not a list of tensors"),
        ({"inputs": [{"graph": "x", "name": "y"}]}, "unknown graph 'x'"),
        ({"presence_threshold": 10**400}, "not sound JSON"),
        ({"macs": {"plain": 10**400}}, "not sound JSON"),
        ({"macs": {"plain": float("inf")}}, "not sound JSON"),
        ({"recipe": {"deep": [[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]}}, "not sound JSON"),
        ({"batch": 64, "search": {"size": 4096, "factor": 4.0}}, "crops of 4096 pixels a side are too many"),
        ({"precisions": {f"p{n}": {} for n in range(3000)}}, "more than 32"),
        ({"precisions": {"\x1b[2J": {}}}, "no name of a precision"),
        ({"inputs": [{"graph": "track", "name": "a\nb"}]}, "name must be a short text"),
        ({"inputs": [{"graph": "track", "name": "y", "dtype": "object"}]}, "dtype 'object' is none of"),
        ({"inputs": [{"graph": "track", "name": "y", "shape": [10**12]}]}, "no shape"),
        ({"outputs": [{"graph": "track", "name": "y"}] * 300}, "more than 256 outputs"),
    ],
)
def test_wrong_manifests(bundle: Bundle, changes: dict[str, Any], complaint: str) -> None:
    content = json.loads((bundle.path / "bundle.json").read_text())
    rewrite(bundle.path, {**content, **changes})
    with pytest.raises(UserError, match=complaint):
        Bundle.open(bundle.path)


@pytest.mark.parametrize("key", ["name", "family", "batch", "template", "search", "recipe", "precisions"])
def test_missing_keys_are_named(bundle: Bundle, key: str) -> None:
    content = json.loads((bundle.path / "bundle.json").read_text())
    del content[key]
    rewrite(bundle.path, content)
    with pytest.raises(UserError, match=f"'{key}' is missing"):
        Bundle.open(bundle.path)


def test_what_is_no_bundle(tmp_path: Path) -> None:
    for path, complaint in ((tmp_path / "none", "no such folder"), (tmp_path, "no bundle.json in it")):
        with pytest.raises(UserError, match=complaint):
            Bundle.open(path)
    (tmp_path / "ckpt.pth").write_bytes(b"x")
    with pytest.raises(UserError, match="is a file: a bundle is a folder"):
        Bundle.open(tmp_path / "ckpt.pth")
    for content in (b"\xff\xfe", b"[" * 100_000, b"[]", b"{", b'{"format": NaN}', b" " * (5 << 20)):
        (tmp_path / "bundle.json").write_bytes(content)
        with pytest.raises(UserError, match=r"bundle\.json"):
            Bundle.open(tmp_path)


def test_mutated_manifests_end_in_one_line(bundle: Bundle) -> None:
    """300 seeded mutations of the manifest's bytes: it opens, or one line says why not."""
    good = (bundle.path / "bundle.json").read_bytes()
    draw = random.Random(9)
    for _ in range(300):
        bad = bytearray(good)
        for _ in range(draw.randint(1, 4)):
            place = draw.randrange(len(bad))
            kind = draw.randrange(3)
            if kind == 0:
                bad[place] = draw.randrange(256)
            elif kind == 1:
                del bad[place : place + draw.randint(1, 30)]
            else:
                bad[place:place] = draw.choice([b"null", b"-1", b"[]", b"{}", b'"x"', b"1e999", b","])
        (bundle.path / "bundle.json").write_bytes(bad)
        complaint = ""
        try:
            Bundle.open(bundle.path).verify()
        except UserError as error:
            complaint = str(error)
        assert "\n" not in complaint
