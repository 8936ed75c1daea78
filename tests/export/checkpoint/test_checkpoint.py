"""Checkpoints: every format and type, and nothing of a hostile file is run or believed."""

from __future__ import annotations

import json
import pickle
import random
import resource
import struct
import sys
import warnings
import zipfile
from collections import OrderedDict
from io import BytesIO
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from jntrt.export.checkpoint import read_checkpoint
from jntrt.export.checkpoint.pickle_reader import Placeholder, read_pickle
from jntrt.export.families.ostrack.flags import Flags
from jntrt.export.families.ostrack.infer import infer_recipe
from jntrt.export.families.ostrack.plain.network import OSTrack
from jntrt.export.families.plain import load_weights
from jntrt.runtime.errors import UserError

CHECKPOINTS = Path(__file__).parents[2] / "data" / "golden" / "checkpoints"
OFFICIAL = CHECKPOINTS / "vitb_256_mae_ce_32x4_ep300" / "OSTrack_ep0300.pth.tar"
JN = CHECKPOINTS.parent / "jn" / "JN_ep0060.pth.tar"


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_checkpoint(path)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_official_checkpoint() -> None:
    checkpoint = read_checkpoint(OFFICIAL)
    assert checkpoint.format == "zip"
    assert checkpoint.project_path == "train/ostrack/vitb_256_mae_ce_32x4_ep300"
    assert checkpoint.weights["backbone.pos_embed_x"].shape == (1, 256, 32)
    assert checkpoint.metadata["epoch"] == 300
    assert "lib.train.admin.settings.Settings" in checkpoint.names


@pytest.mark.parametrize(
    ("name", "inside", "parts"),
    [
        ("ultralytics.nn.tasks.DetectionModel", "model", ("a YOLO model", "['model'].state_dict()")),
        ("lib.models.net.Tracker", "net", ("a whole pickled module (lib.models", "['net'].state_dict()")),
        ("lib.models.net.Tracker", None, ("a whole pickled module", "weights_only=False).state_dict()")),
    ],
)
def test_a_pickled_module_says_how_its_weights_are_had(
    name: str, inside: str | None, parts: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, _, word = name.rpartition(".")
    for end in range(1, module.count(".") + 2):
        package = ".".join(module.split(".")[:end])
        monkeypatch.setitem(sys.modules, package, ModuleType(package))
    kind = type(word, (torch.nn.Linear,), {"__module__": module})
    monkeypatch.setattr(sys.modules[module], word, kind, raising=False)
    whole = kind(2, 2)
    torch.save({inside: whole, "ema": None} if inside else whole, tmp_path / "a.pt")
    told = refusal(tmp_path / "a.pt")
    assert all(part in told for part in parts)


def test_an_onnx_graph_is_called_one(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"\x08\x08:\x00")
    assert "an ONNX graph, not a checkpoint" in refusal(tmp_path / "a.onnx")


def test_jn_checkpoint_of_halves_is_read_as_float32() -> None:
    checkpoint = read_checkpoint(JN)
    floating = [a for n, a in checkpoint.weights.items() if not n.endswith("num_batches_tracked")]
    assert {a.dtype for a in floating} == {np.dtype(np.float32)}
    assert checkpoint.project_path == "train/jn/jn256_cae_got10k_ep60"


def test_legacy_checkpoint_equals_its_safetensors() -> None:
    legacy = read_checkpoint(CHECKPOINTS / "renamed_legacy_model.bin.pth")
    tensors = read_checkpoint(CHECKPOINTS.parent / "networks" / "small_weights.safetensors")
    assert legacy.format == "legacy"
    assert tensors.format == "safetensors"
    assert legacy.project_path is None
    assert legacy.weights.keys() == tensors.weights.keys()
    for name, array in legacy.weights.items():
        np.testing.assert_array_equal(array, tensors.weights[name])


def test_hostile_checkpoint_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    checkpoint = read_checkpoint(CHECKPOINTS / "malicious.pth.tar")
    assert not (tmp_path / "pwned-marker").exists()
    assert checkpoint.names == ("posix.system",)
    assert isinstance(checkpoint.metadata["settings"], Placeholder)
    assert checkpoint.project_path is None


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("truncated.pth", "cut short"),
        ("empty.pth", "empty"),
        ("not_a_checkpoint.pth", "not a checkpoint"),
        ("nan.pth", "mlp.fc1.weight' is not finite at [5, 3]"),
        ("absent.pth", "no such file"),
        (".", "a folder"),
    ],
)
def test_damaged_files_are_refused_in_one_line(name: str, part: str) -> None:
    assert part in refusal(CHECKPOINTS / name)


TYPES = [
    *(torch.float16, torch.float32, torch.float64, torch.bfloat16),
    *(torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.bool, torch.uint16),
]


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("where", ["", "net", "model", "state_dict"])
def test_types_strides_and_shared_storages(tmp_path: Path, legacy: bool, where: str) -> None:
    base = torch.arange(60, dtype=torch.float32).reshape(5, 12)
    state: dict[str, torch.Tensor] = {
        "module.strided": base[1::2, ::3],
        "module.transposed": base.t(),
        "module.expanded": torch.ones(1).expand(4),
        "module.parameter": torch.nn.Parameter(base[2] * 1.5),
        "module.scalar": torch.tensor(7.0),
        "module.nothing": torch.zeros(0, 3),
    }
    for dtype in TYPES:
        state[f"module.{dtype}"] = torch.arange(6).reshape(2, 3).to(dtype)
    state["module.big"] = torch.tensor([1e-3, 65504.0], dtype=torch.float64)
    path = tmp_path / "a.pth"
    tree = {where: OrderedDict(state), "epoch": 3} if where else OrderedDict(state)
    torch.save(tree, path, _use_new_zipfile_serialization=not legacy)
    checkpoint = read_checkpoint(path)
    assert list(checkpoint.weights) == [name.removeprefix("module.") for name in state]
    for name, tensor in state.items():
        array = checkpoint.weights[name.removeprefix("module.")]
        wanted = tensor.detach()
        wanted = wanted.float() if wanted.is_floating_point() else wanted
        assert array.shape == tuple(tensor.shape)
        assert array.dtype == wanted.numpy().dtype
        np.testing.assert_array_equal(array, wanted.numpy())


def test_safetensors_types(tmp_path: Path) -> None:
    state = {str(t): torch.arange(6).reshape(2, 3).to(t) for t in TYPES}
    save_file(state, tmp_path / "a.safetensors", metadata={"epoch": "3"})
    checkpoint = read_checkpoint(tmp_path / "a.safetensors")
    assert checkpoint.metadata == {"epoch": "3"}
    for name, tensor in state.items():
        np.testing.assert_array_equal(checkpoint.weights[name], tensor.float().numpy())


@pytest.mark.parametrize("dtype", [torch.complex64, torch.float8_e4m3fn])
def test_other_types_are_refused_by_name(tmp_path: Path, dtype: torch.dtype) -> None:
    torch.save({"net": {"w": torch.zeros(3).to(dtype)}}, tmp_path / "a.pth")
    assert "convert the weights to float32" in refusal(tmp_path / "a.pth")


def test_whole_modules_and_other_pickles(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pth")
    assert "state_dict()" in refusal(tmp_path / "module.pth")
    torch.save({"optimizer": {}}, tmp_path / "nothing.pth")
    assert "no weights" in refusal(tmp_path / "nothing.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps({"net": [1, 2]}))
    assert "torch.save did not write" in refusal(tmp_path / "plain.pth")
    with zipfile.ZipFile(tmp_path / "script.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", b"")
        archive.writestr("a/constants.pkl", b"")
    assert "TorchScript" in refusal(tmp_path / "script.pt")
    torch.save({"a": torch.ones(2), "module.a": torch.ones(2)}, tmp_path / "twice.pth")
    assert "twice" in refusal(tmp_path / "twice.pth")


def rewritten(tmp_path: Path, change: dict[str, bytes], compress: bool = False) -> Path:
    """The tiny checkpoint with some records changed."""
    path = tmp_path / "changed.pth"
    kind = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    with (
        zipfile.ZipFile(CHECKPOINTS / "tiny_good.pth.tar") as source,
        zipfile.ZipFile(path, "w", kind) as target,
    ):
        for entry in source.infolist():
            name = entry.filename.split("/", 1)[1]
            target.writestr(entry.filename, change.get(name, source.read(entry)))
    return path


def test_zip_bombs_and_lying_storages(tmp_path: Path) -> None:
    assert read_checkpoint(rewritten(tmp_path, {})).weights
    assert "compressed" in refusal(rewritten(tmp_path, {"data/0": bytes(50_000_000)}, compress=True))
    assert "says 64 bytes and has 32" in refusal(rewritten(tmp_path, {"data/0": bytes(32)}))
    path = rewritten(tmp_path, {})
    data = bytearray(path.read_bytes())
    last = data.rindex(b"PK\x01\x02")  # the last entry's size in the directory: 3 GB
    data[last + 20 : last + 28] = struct.pack("<II", 3 << 30, 3 << 30)
    path.write_bytes(data)
    assert "more than the file has" in refusal(path)


def tensor_pickle(shape: tuple[int, ...], strides: tuple[int, ...], count: int) -> bytes:
    """A hand-written pickle of {'w': one tensor in storage '0'}."""

    def integer(n: int) -> bytes:
        return b"\x8a\x08" + struct.pack("<q", n)

    def ints(values: tuple[int, ...]) -> bytes:
        return b"(" + b"".join(map(integer, values)) + b"t"

    storage = (
        b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpu" + integer(count) + b"tQ"
    )
    arguments = b"(" + storage + integer(0) + ints(shape) + ints(strides) + b"\x89}t"
    return b"\x80\x02}X\x01\0\0\0wctorch._utils\n_rebuild_tensor_v2\n" + arguments + b"Rs."


def hand_written(tmp_path: Path, data: bytes, storage: bytes = bytes(16), order: bytes = b"little") -> Path:
    path = tmp_path / "hand.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", data)
        archive.writestr("a/byteorder", order)
        archive.writestr("a/data/0", storage)
    return path


@pytest.mark.parametrize(
    ("shape", "strides"), [((0, 1 << 61), (1, 1)), ((0, 1 << 61, 1 << 61), (1, 1, 1)), ((0, 1 << 40), (1, 1))]
)
def test_tensors_of_nothing_that_are_too_wide(
    tmp_path: Path, shape: tuple[int, ...], strides: tuple[int, ...]
) -> None:
    assert "odd shape" in refusal(hand_written(tmp_path, tensor_pickle(shape, strides, 4)))


def test_a_stride_that_is_never_taken(tmp_path: Path) -> None:
    """Of an axis with one element any stride is true."""
    path = hand_written(tmp_path, tensor_pickle((4, 1), (1, 1 << 61), 4), struct.pack("<4f", 1, 2, 3, 4))
    np.testing.assert_array_equal(read_checkpoint(path).weights["w"], [[1], [2], [3], [4]])


def test_small_files_hold_no_large_tensors(tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(1).expand(1 << 20)}, tmp_path / "a.pth")
    assert "more than" in refusal(tmp_path / "a.pth")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_scalars(tmp_path: Path, dtype: torch.dtype) -> None:
    torch.save({"w": torch.tensor(1.5, dtype=dtype)}, tmp_path / "a.pth")
    scalar = read_checkpoint(tmp_path / "a.pth").weights["w"]
    assert isinstance(scalar, np.ndarray)
    assert scalar == 1.5
    torch.save({"w": torch.tensor(float("nan"), dtype=dtype)}, tmp_path / "a.pth")
    assert "'w' is not finite at []" in refusal(tmp_path / "a.pth")


def test_large_whole_numbers_as_keys(tmp_path: Path) -> None:
    """Thousands of them with one hash would take hours; one of 5000 digits cannot be written in a message."""
    torch.save({"net": {"w": torch.ones(2), 10**5000: 1}, 10**5000: 2}, tmp_path / "a.pth")
    assert read_checkpoint(tmp_path / "a.pth").weights.keys() == {"w"}
    modulus = (1 << 61) - 1
    keys = b"".join(b"\x8a\x0a" + (i * modulus).to_bytes(10, "little") + b"N" for i in range(1, 30_000))
    assert read_pickle(BytesIO(b"\x80\x02}(" + keys + b"K\x07Nu.")) == {7: None}


def test_byte_order(tmp_path: Path) -> None:
    data = tensor_pickle((4,), (1,), 4)
    for order, mark in ((b"little", "<"), (b"big", ">")):
        path = hand_written(tmp_path, data, struct.pack(f"{mark}4f", 1, 2, 3, 4), order)
        np.testing.assert_array_equal(read_checkpoint(path).weights["w"], [1, 2, 3, 4])


def test_tensors_that_lie(tmp_path: Path) -> None:
    assert read_checkpoint(hand_written(tmp_path, tensor_pickle((4,), (1,), 4))).weights["w"].shape == (4,)
    for shape, strides, count in [
        ((5,), (1,), 4),
        ((4,), (1 << 60,), 4),
        ((4,), (-1,), 4),
        ((1 << 40,), (0,), 4),
        ((4,), (1,), 1 << 40),
        ((4, 4), (1,), 4),
    ]:
        refusal(hand_written(tmp_path, tensor_pickle(shape, strides, count)))


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x02r\xff\xff\xff\xff.",  # memo entry 4·10⁹, which would cost the C unpickler 64 GB
        b"\x80\x05\x96" + struct.pack("<Q", 1 << 50) + b".",  # a byte array of 10¹⁵
        b"\x80\x04\x8d" + struct.pack("<Q", 1 << 50) + b".",
        b"(" * 1000 + b".",
        b"]" + b"\x85" * 100_000 + b".",  # nested tuples
        b"}" + b"(" + b"]" * 2000,
        b"cos\nsystem\n(X\x02\0\0\0ida.",
        b"\x82\x01.",
    ],
)
def test_hostile_pickles(tmp_path: Path, data: bytes) -> None:
    refusal(hand_written(tmp_path, data))


def test_300_mutated_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes flipped, cut, repeated and overwritten: a sound checkpoint or one line, and nothing is run."""
    monkeypatch.chdir(tmp_path)
    rng = random.Random(20260)
    save_file({"w": torch.ones(9, 9), "b": torch.ones(3).bfloat16()}, tmp_path / "s.safetensors")
    files = [
        (CHECKPOINTS / "tiny_good.pth.tar").read_bytes(),
        (CHECKPOINTS / "malicious.pth.tar").read_bytes(),
        legacy_tiny(tmp_path),
        (tmp_path / "s.safetensors").read_bytes(),
    ]
    path = tmp_path / "mutated.pth"
    ce = {"ce_layers": "1", "keep_ratio": "0.7", "template_tokens": "center"}
    flags = Flags(heads=2, template_factor=2.0, search_factor=4.0, **ce)  # type: ignore[arg-type]
    read = 0
    for number in range(300):
        data = bytearray(files[number % len(files)])
        # The pickle, the directory or the storages, so that all of the readers are met.
        low, high = [(0, len(data)), (0, min(len(data), 30_000)), (max(0, len(data) - 20_000), len(data))][
            number % 3
        ]
        for _ in range(rng.choice([1, 2, 5, 40])):
            at, kind = rng.randrange(low, high), rng.randrange(5)
            if kind == 0:
                data[at % len(data)] = rng.randrange(256)
            elif kind == 1:
                data[at % len(data)] ^= 1 << rng.randrange(8)
            elif kind == 2:
                data[at : at + 4] = struct.pack("<I", rng.choice([0, 1, 0x7FFFFFFF, 0xFFFFFFFF]))
            elif kind == 3:
                del data[at : at + rng.randrange(1, 9)]
            else:
                data[at:at] = data[at : at + rng.randrange(1, 9)]
        path.write_bytes(data)
        try:
            checkpoint = read_checkpoint(path)
            told = ""
            if "backbone.pos_embed_z" in checkpoint.weights:
                recipe = infer_recipe(checkpoint.weights, flags=flags).recipe
                with torch.device("meta"):
                    load_weights(OSTrack(recipe), checkpoint.weights)
            read += 1
            assert all(np.isfinite(a).all() for a in checkpoint.weights.values())
        except UserError as error:
            told = str(error)
        assert "\n" not in told
        assert len(told) < 600
    assert not (tmp_path / "pwned-marker").exists()
    assert 0 < read < 300


def legacy_tiny(tmp_path: Path) -> bytes:
    weights = read_checkpoint(CHECKPOINTS / "tiny_good.pth.tar").weights
    state = {name: torch.from_numpy(array) for name, array in weights.items()}
    torch.save({"net": state, "epoch": 7}, tmp_path / "legacy.pth", _use_new_zipfile_serialization=False)
    return (tmp_path / "legacy.pth").read_bytes()


@pytest.mark.parametrize(
    "header",
    [
        {"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 12]}},
        {"w": {"dtype": "F32", "shape": [1 << 50], "data_offsets": [0, 16]}},
        {"w": {"dtype": "F32", "shape": [4], "data_offsets": [8, 1 << 40]}},
        {"w": {"dtype": "F32", "shape": [-4], "data_offsets": [0, 16]}},
        {"w": {"dtype": "F32", "shape": [4.0], "data_offsets": [0, 16]}},
        {"w": {"dtype": "F32", "shape": [0, 10**30], "data_offsets": [0, 0]}},
        {"w": {"dtype": "F32", "shape": [0, 1 << 30, 1 << 30, 1 << 30], "data_offsets": [0, 0]}},
        {"w": {"dtype": "F32", "shape": [10**4000] * 3, "data_offsets": [0, 16]}},
        {"w": {"dtype": "F8_E4M3", "shape": [16], "data_offsets": [0, 16]}},
        {f"w{i}": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]} for i in range(60)},
        {"w": 3},
        [],
        {},
    ],
)
def test_odd_safetensors(tmp_path: Path, header: object) -> None:
    text = json.dumps(header).encode()
    if isinstance(header, list):
        text = b'{"w": [1'
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + bytes(16))
    refusal(tmp_path / "a.safetensors")


def test_two_records_of_one_name_are_refused(tmp_path: Path) -> None:
    """torch takes the first of them, Python's zipfile the last: other weights than the user tried."""
    path = rewritten(tmp_path, {})
    with zipfile.ZipFile(path, "a") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        name = next(n for n in archive.namelist() if n.endswith("data/0"))
        archive.writestr(name, bytes(archive.getinfo(name).file_size))
    assert "two records of one name" in refusal(path)


def test_a_safetensors_file_of_holes_and_overlaps(tmp_path: Path) -> None:
    """A sparse file costs nothing to make; two tensors may not share its bytes."""

    def write(header: dict[str, object], length: int) -> Path:
        text = json.dumps(header).encode()
        path = tmp_path / "a.safetensors"
        with path.open("wb") as file:
            file.write(struct.pack("<Q", len(text)) + text)
            file.truncate(8 + len(text) + length)
        return path

    half = 6 << 30
    entry = {"dtype": "F32", "shape": [half // 4], "data_offsets": [0, half]}
    assert "more than" in refusal(write({"w": entry}, half))
    small = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}
    assert "damaged" in refusal(write({"a": small, "b": small}, 16))


def test_a_pickle_that_says_it_is_as_long_as_a_file_of_holes(tmp_path: Path) -> None:
    """A legacy file of 6 GB that occupies no disk: one text of its pickle spans it."""
    path = tmp_path / "a.pth"
    with path.open("wb") as file:
        file.write(b"\x80\x02\x8d" + struct.pack("<Q", 6 << 30))
        file.truncate(6 << 30)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refusal(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # kB


def test_names_have_an_end(tmp_path: Path) -> None:
    torch.save({"w" * 600: torch.ones(2)}, tmp_path / "a.pth")
    assert "longer than 512 characters" in refusal(tmp_path / "a.pth")
