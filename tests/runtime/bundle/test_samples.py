"""parity.npz of strangers: what is odd ends in one line, and nothing large is allocated for it."""

import hashlib
import io
import json
import resource
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jntrt.runtime.bundle import Bundle, read_samples, write_bundle
from jntrt.runtime.errors import UserError

MANIFEST: dict[str, Any] = {
    "format": 1,
    "name": "tiny",
    "family": "jn",
    "batch": 2,
    "recipe": {},
    "template": {"size": 16, "factor": 2.0},
    "search": {"size": 32, "factor": 4.0},
    "presence_threshold": 0.25,
    "precisions": {"fp32": {"template": {"file": "template.onnx"}, "track": {"file": "track.onnx"}}},
    "inputs": [{"graph": "template", "name": "target_box", "dtype": "float32", "shape": [2, 4]}],
}


def arrays() -> dict[str, np.ndarray]:
    return {
        "template": np.zeros((4, 16, 16, 3), np.uint8),
        "search": np.ones((4, 32, 32, 3), np.uint8),
        "target_box": np.zeros((4, 4), np.float32),
        "box": np.arange(16, dtype=np.float32).reshape(4, 4),
        "score": np.zeros(4, np.float32),
        "kept/blocks.1": np.zeros((4, 7), np.int64),
    }


def npz(content: dict[str, np.ndarray], **options: bool) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **options, **content)
    return buffer.getvalue()


def bundle_with(folder: Path, parity: bytes) -> Bundle:
    files = {"template.onnx": b"one", "track.onnx": b"two", "parity.npz": parity}
    return write_bundle(folder / "tiny", MANIFEST, files)


def member(name: str, content: bytes, kind: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A whole archive with one member's bytes replaced."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(npz(arrays()))) as source, zipfile.ZipFile(buffer, "w", kind) as target:
        for entry in source.infolist():
            target.writestr(entry.filename, content if entry.filename == name else source.read(entry))
    return buffer.getvalue()


def header(text: str, data: bytes = b"") -> bytes:
    encoded = text.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(encoded).to_bytes(2, "little") + encoded + data


def test_what_is_written_is_read(tmp_path: Path) -> None:
    stored = read_samples(bundle_with(tmp_path, npz(arrays())))
    for name, array in arrays().items():
        np.testing.assert_array_equal(stored[name], array)
    columns = arrays() | {"box": np.asfortranarray(arrays()["box"])}
    np.testing.assert_array_equal(read_samples(bundle_with(tmp_path, npz(columns)))["box"], arrays()["box"])


DESCR = "{'descr': '<f4', 'fortran_order': False, 'shape': %s}"
ODD = {
    "no zip": b"PK\x03\x04" + bytes(50),
    "cut": npz(arrays())[:-200],
    "empty": b"\0",
    "object": npz(arrays() | {"box": np.array([{}] * 4, object)}, allow_pickle=True),
    "strings": npz(arrays() | {"more": np.array(["a"] * 4)}),
    "another type": npz(arrays() | {"box": np.zeros((4, 4))}),
    "another shape": npz(arrays() | {"search": np.zeros((4, 31, 32, 3), np.uint8)}),
    "another input": npz(arrays() | {"target_box": np.zeros((4, 5), np.float32)}),
    "uneven": npz(arrays() | {"score": np.zeros(3, np.float32)}),
    "no whole batch": npz({name: array[:3] for name, array in arrays().items()}),
    "none": npz({name: array[:0] for name, array in arrays().items()}),
    "scalar": npz(arrays() | {"more": np.float32(3)}),
    "missing": npz({name: array for name, array in arrays().items() if name != "score"}),
    "no header": member("box.npy", b"what"),
    "header of code": member("box.npy", header("__import__('os').getcwd()")),
    "deep header": member("box.npy", header("(" * 900)),
    "long header": member("box.npy", header("{}" + " " * 60_000)),
    "giant shape": member("box.npy", header(DESCR % f"({10**18}, 4)", bytes(64))),
    "negative shape": member("box.npy", header(DESCR % "(-4, -4)", bytes(64))),
    "shape of text": member("box.npy", header(DESCR % "('a', 4)", bytes(64))),
    "longer than it says": member("box.npy", header(DESCR % "(4, 4)", bytes(65))),
    "records": member("box.npy", header("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (4,)}")),
    "version 9": member("box.npy", b"\x93NUMPY\x09\x00" + bytes(100)),
    "lzma": member("box.npy", b"\x93NUMPY", zipfile.ZIP_LZMA),
}


@pytest.mark.parametrize("content", ODD.values(), ids=ODD.keys())
def test_odd_archives_end_in_one_line(tmp_path: Path, content: bytes) -> None:
    bundle = bundle_with(tmp_path, content)
    with pytest.raises(UserError, match=r"parity\.npz.*: export the checkpoint again") as caught:
        read_samples(bundle)
    assert "\n" not in str(caught.value)


def test_a_name_that_is_there_twice(tmp_path: Path) -> None:
    buffer = io.BytesIO(npz(arrays()))
    with zipfile.ZipFile(buffer, "a") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive.writestr("box.npy", b"other")
    with pytest.raises(UserError, match="twice"):
        read_samples(bundle_with(tmp_path, buffer.getvalue()))


def test_a_deflate_bomb_is_not_inflated(tmp_path: Path) -> None:
    """1.5 GB of zeros in 1.5 MB, as the archive says, or as it does not say."""
    shape = (4, 32, 32, 3, 1 << 17)
    text = DESCR.replace("<f4", "|u1") % str(shape)
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("search.npy", "w", force_zip64=True) as stream,
    ):
        stream.write(header(text))
        for _ in range(1536):
            stream.write(bytes(1 << 20))
    honest = buffer.getvalue()
    said = (1536 << 20) + len(header(text))
    liar = honest.replace(said.to_bytes(4, "little"), (1 << 20).to_bytes(4, "little"))
    assert liar != honest
    for content in (honest, liar):
        bundle = bundle_with(tmp_path, content)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with pytest.raises(UserError, match=r"parity\.npz"):
            read_samples(bundle)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # kB


def test_a_changed_file_is_not_read(tmp_path: Path) -> None:
    bundle = bundle_with(tmp_path, npz(arrays()))
    manifest = json.loads((bundle.path / "bundle.json").read_text())
    manifest["parity"]["sha256"] = hashlib.sha256(b"another").hexdigest()
    (bundle.path / "bundle.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="sha256 differs"):
        read_samples(Bundle.open(bundle.path))
