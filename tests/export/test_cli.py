"""export-jn: from checkpoints to bundles, in one process each where exit codes and output count."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from jntrt.export.families import family
from jntrt.export.families.ostrack.plain.network import OSTrack
from jntrt.export.families.ostrack.recipe import Recipe
from jntrt.runtime.bundle import KEPT, Bundle, read_samples
from jntrt.runtime.engines.parity import compare

from .export_jn import GOLDEN, TINY, TINY_YAML, export_jn, one_line

OFFICIAL = GOLDEN / "checkpoints" / "vitb_256_mae_ce_32x4_ep300" / "OSTrack_ep0300.pth.tar"
JN = GOLDEN / "jn" / "JN_ep0060.pth.tar"
CROPS = ("--template-factor", 2, "--search-factor", 4)
JN_TOLD = (*CROPS, "--target-box-format", "cxcywh", "--ce-layers", "none")


def test_official_checkpoint_by_its_stored_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(OFFICIAL, tmp_path)  # out of the folder that bears the recipe's name
    assert export_jn(OFFICIAL.name, "--heads", 4, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert {p.name for p in tmp_path.iterdir()} == {OFFICIAL.name, "OSTrack_ep0300"}
    bundle = Bundle.open(tmp_path / "OSTrack_ep0300")
    assert bundle.recipe["ce_layers"] == [3, 6, 9]
    assert bundle.recipe["keep_ratio"] == [0.7, 0.7, 0.7]
    assert (bundle.family, bundle.name, bundle.search.size) == ("ostrack", "OSTrack_ep0300", 256)
    kept = [name for name in read_samples(bundle) if name.startswith(KEPT)]
    assert kept == [f"kept/blocks.{layer}/ce/kept" for layer in (3, 6, 9)]
    assert compare(bundle, "fp32", kept_sets=True).kept_differs == 0
    sources = {row["what"]: row["from"] for row in told["inferred"]}
    assert sources["ce layers"] == "settings.project_path: vitb_256_mae_ce_32x4_ep300"
    assert sources["heads"] == "--heads"
    assert set(told["unused"]) == {"backbone.cls_token", "backbone.pos_embed"}
    assert bundle.entry("fp32")["check"]["box"] < 1e-4
    assert bundle.entry("fp32")["check"]["passed"] is True
    assert 0 < bundle.manifest["macs"]["fast"] < bundle.manifest["macs"]["plain"]
    assert bundle.manifest["source"]["checkpoint"] == OFFICIAL.name


def test_the_folder_s_name_speaks_too(tmp_path: Path) -> None:
    from jntrt.export.checkpoint import read_checkpoint

    folder = tmp_path / "vitb_256_mae_32x4_ep300"
    folder.mkdir()
    state = {k: torch.from_numpy(v) for k, v in read_checkpoint(OFFICIAL).weights.items()}
    torch.save({"net": state}, folder / "a.pth.tar")
    assert export_jn(folder / "a.pth.tar", "-o", tmp_path / "b", "--heads", 4) == 0
    assert Bundle.open(tmp_path / "b").recipe["ce_layers"] == []


def test_jn_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export_jn(JN, "-o", tmp_path / "jn", "--heads", 4, *JN_TOLD) == 0
    told = capsys.readouterr().out
    for part in (
        "target token",
        "--heads",
        "unused: ",
        "MACs",
        "largest difference",
        "not known: default",
    ):
        assert part in told
    assert told.splitlines()[-1].startswith("not known: presence threshold, license, trained; flags")
    bundle = Bundle.open(tmp_path / "jn")
    assert bundle.takes("template", "target_box")
    with np.load(bundle.parity()) as parity:
        assert set(parity) == {"template", "target_box", "search", "box", "score"}
        assert parity["box"].shape == (4, 4)


@pytest.mark.parametrize("ending", [".yaml", ".yml"])
def test_the_yaml_beside_a_checkpoint_is_read(
    ending: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(TINY, tmp_path / "a.pth.tar")
    beside = tmp_path / f"a{ending}"
    shutil.copy(TINY_YAML, beside)
    assert export_jn(tmp_path / "a.pth.tar", "-o", tmp_path / "b", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    row = {"what": "experiment file", "value": beside.name, "from": "found beside the checkpoint"}
    assert row in told["inferred"]
    assert told["not_known"] == ["presence threshold", "license", "trained"]
    (tmp_path / "other.yaml").write_text(TINY_YAML.read_text())
    beside.write_text("no: recipe")
    assert export_jn(tmp_path / "a.pth.tar", "-o", tmp_path / "b") == 2
    assert f"{beside.name}: none of" in one_line(capsys)
    assert export_jn(tmp_path / "a.pth.tar", "-o", tmp_path / "b", "--config", tmp_path / "other.yaml") == 0
    assert "found beside" not in capsys.readouterr().out


def test_legacy_checkpoint_with_a_yaml(tmp_path: Path) -> None:
    checkpoints = GOLDEN / "checkpoints"
    config = checkpoints / "renamed_legacy_model.config.yaml"
    assert (
        export_jn(checkpoints / "renamed_legacy_model.bin.pth", "-o", tmp_path / "a", "--config", config) == 0
    )
    assert Bundle.open(tmp_path / "a").recipe["template_tokens"] == "rect"


def test_vitb_width_needs_no_flag(tmp_path: Path) -> None:
    """The official layout at ViT-B's width, with few blocks and a narrow head."""
    recipe = Recipe("ostrack", 64, 2.0, 256, 4.0, 768, 2, 12, 96, head_channels=8)
    write_official(tmp_path / "a.pth.tar", recipe, "train/ostrack/vitb_256_mae_32x4_ep300")
    assert export_jn(tmp_path / "a.pth.tar", "-o", tmp_path / "bundle") == 0
    exported = Bundle.open(tmp_path / "bundle").recipe
    assert (exported["heads"], exported["ce_layers"], exported["search_factor"]) == (12, [], 4.0)


def write_official(path: Path, recipe: Recipe, project_path: str) -> None:
    """Random weights in the official trainer's layout; the class of its settings is gone afterwards."""
    torch.manual_seed(3)
    state = OSTrack(recipe).state_dict()
    state["backbone.cls_token"] = torch.zeros(1, 1, recipe.dim)
    module = type(sys)("lib_of_the_trainer")
    settings_class = type("Settings", (), {"__module__": module.__name__})
    module.Settings = settings_class  # type: ignore[attr-defined]
    sys.modules[module.__name__] = module
    try:
        settings = settings_class()
        settings.project_path = project_path
        torch.save({"epoch": 300, "net_type": "OSTrack", "net": state, "settings": settings}, path)
    finally:
        del sys.modules[module.__name__]


def test_hostile_checkpoint_leaves_no_marker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert export_jn(GOLDEN / "checkpoints" / "malicious.pth.tar", "--config", TINY_YAML) == 0
    assert not (tmp_path / "pwned-marker").exists()


@pytest.mark.parametrize(("batch", "tokens"), [(1, "box"), (3, "all"), (6, "box")])
def test_batch_and_template_rows(tmp_path: Path, batch: int, tokens: str) -> None:
    options = ("--config", TINY_YAML, "--batch", batch, "--template-tokens", tokens)
    assert export_jn(TINY, "-o", tmp_path / "b", *options) == 0
    bundle = Bundle.open(tmp_path / "b")
    assert bundle.batch == batch
    shapes = {row["name"]: row["shape"] for row in bundle.manifest["outputs"] if row["graph"] == "track"}
    assert shapes == {"box": [batch, 4], "score": [batch]}
    assert bundle.takes("track", "template_weights") == (tokens == "box")
    assert bundle.manifest["macs"]["plain"] == batch * family("ostrack").macs(Recipe.from_dict(bundle.recipe))
    assert export_jn("check", tmp_path / "b") == 0


def test_a_bundle_is_replaced_and_another_folder_is_not(
    tmp_path: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "place"
    shutil.copytree(tiny_bundle, place)
    assert export_jn(TINY, "-o", place, "--config", TINY_YAML, "--ce-layers", "none") == 0
    assert Bundle.open(place).recipe["ce_layers"] == []
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("years of work")
    capsys.readouterr()
    assert export_jn(TINY, "-o", tmp_path / "full", "--config", TINY_YAML) == 2
    assert "not empty" in one_line(capsys)
    assert export_jn(TINY, "-o", TINY, "--config", TINY_YAML) == 2
    assert "file" in one_line(capsys)
    (tmp_path / "empty").mkdir()
    assert export_jn(TINY, "-o", tmp_path / "empty", "--config", TINY_YAML) == 0


def test_a_failed_export_leaves_nothing(
    tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import jntrt.export.parity as check

    place = tmp_path / "place"
    shutil.copytree(tiny_bundle, place)
    before = {p.name: p.read_bytes() for p in place.iterdir()}
    monkeypatch.setattr(check, "TOLERANCE", -1.0)
    assert export_jn(TINY, "-o", place, "--config", TINY_YAML) == 3
    assert "differ" in one_line(capsys)
    assert export_jn(TINY, "-o", tmp_path / "new", "--config", TINY_YAML) == 3
    assert {p.name: p.read_bytes() for p in place.iterdir()} == before
    assert [p.name for p in tmp_path.iterdir()] == ["place"]


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ((GOLDEN / "checkpoints" / "truncated.pth",), "cut short"),
        ((GOLDEN / "checkpoints" / "empty.pth",), "empty"),
        ((GOLDEN / "checkpoints" / "nan.pth",), "not finite"),
        ((GOLDEN / "checkpoints" / "not_a_checkpoint.pth",), "not a checkpoint"),
        ((GOLDEN / "checkpoints",), "a folder"),
        (("nothing.pth",), "check, inspect"),
        (("inspct", "x"), "check, inspect"),
        ((JN,), "--heads"),
        ((JN, "--heads", "4"), "--search-factor"),
        ((JN, "--heads", "5", *JN_TOLD), "5 heads"),
        ((JN, "--heads", "4", "--batch", "0"), "--batch"),
        ((JN, "--heads", "four"), "--heads"),
        ((JN, "--heads", "4", "--family", "siamese"), "--family"),
        ((JN, "--heads", "4", "--ce-layers", "3;6"), "--ce-layers"),
        ((JN, "--heads", "4", "--config", "absent.yaml"), "absent.yaml"),
        ((JN, "--heads", "4", "--config", TINY_YAML), "the weights show"),
        ((JN, "--heads", "4", "--key-map", TINY_YAML), "--key-map"),
        ((TINY, "--heads", "2"), "--ce-layers"),
        (("inspect", GOLDEN), "not a bundle"),
        (("check", GOLDEN / "absent"), "not a bundle"),
        ((JN, "--nonsense", "1"), "--nonsense"),
    ],
)
def test_mistakes_are_one_line(
    arguments: tuple[object, ...],
    part: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert export_jn(*arguments) == 2
    assert part in one_line(capsys)
    assert list(tmp_path.iterdir()) == []


def test_missing_weights_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from jntrt.export.checkpoint import read_checkpoint

    state = {k: torch.from_numpy(v) for k, v in read_checkpoint(TINY).weights.items()}
    del state["backbone.blocks.1.mlp.fc2.bias"]
    torch.save(state, tmp_path / "a.pth")
    assert export_jn(tmp_path / "a.pth", "-o", tmp_path / "b", "--config", TINY_YAML) == 2
    assert "backbone.blocks.1.mlp.fc2.bias" in one_line(capsys)
    state["backbone.blocks.1.mlp.fc2.bias"] = torch.zeros(17)
    torch.save(state, tmp_path / "a.pth")
    assert export_jn(tmp_path / "a.pth", "-o", tmp_path / "b", "--config", TINY_YAML) == 2
    assert "backbone.blocks.1.mlp.fc2.bias" in one_line(capsys)
    # A width that the other weights do not have must not cost memory for a network of that width.
    state["backbone.patch_embed.proj.weight"] = torch.zeros(400_000, 1, 1, 1)
    torch.save(state, tmp_path / "a.pth")
    assert (
        export_jn(tmp_path / "a.pth", "-o", tmp_path / "b", "--heads", 2, "--ce-layers", "none", *CROPS) == 2
    )
    one_line(capsys)


@pytest.mark.parametrize(
    ("name", "shape"),
    [("backbone.patch_embed.proj.weight", (16, 3, 160, 1)), ("box_head.conv1_ctr.0.weight", (80, 16, 3, 3))],
)
def test_one_shape_makes_no_network(
    name: str,
    shape: tuple[int, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What one weight says is compared with the others before the network has memory."""
    from jntrt.export.checkpoint import read_checkpoint
    from jntrt.export.families.ostrack.plain import network as ostrack

    made = []

    class Watched(ostrack.OSTrack):
        def __init__(self, recipe: Recipe) -> None:
            super().__init__(recipe)
            made.append(next(self.parameters()).device.type)

    monkeypatch.setattr(ostrack, "OSTrack", Watched)
    state = {k: torch.from_numpy(v) for k, v in read_checkpoint(TINY).weights.items()}
    state[name] = torch.zeros(shape)
    torch.save(state, tmp_path / "a.pth")
    assert (
        export_jn(tmp_path / "a.pth", "-o", tmp_path / "b", "--heads", 2, "--ce-layers", "none", *CROPS) == 2
    )
    assert "shapes do not fit" in one_line(capsys)
    assert made == ["meta"]


@pytest.mark.parametrize(
    ("name", "value", "code", "part"),
    [
        ("backbone.norm.weight", torch.ones(16, dtype=torch.int64), 2, "not floating-point"),
        ("box_head.conv1_ctr.1.running_var", -torch.ones(8), 3, "differ"),
        ("box_head.conv1_ctr.0.weight", torch.full((8, 16, 3, 3), 3e38), 3, "differ"),
    ],
)
def test_weights_that_make_no_number(
    name: str, value: torch.Tensor, code: int, part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from jntrt.export.checkpoint import read_checkpoint

    state = {k: torch.from_numpy(v) for k, v in read_checkpoint(TINY).weights.items()}
    state[name] = value
    torch.save(state, tmp_path / "a.pth")
    assert export_jn(tmp_path / "a.pth", "-o", tmp_path / "b", "--config", TINY_YAML) == code
    assert part in one_line(capsys)


def test_names_that_steer_a_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from jntrt.export.checkpoint import read_checkpoint

    state = {k: torch.from_numpy(v) for k, v in read_checkpoint(TINY).weights.items()}
    state["\x1b[2J:smile:[/red]\ud800"] = torch.ones(1)
    file = tmp_path / "a\udcff.pth"  # a name that is no UTF-8
    torch.save(state, tmp_path / "a.pth")
    (tmp_path / "a.pth").rename(file)
    assert export_jn(file, "-o", tmp_path / "b", "--config", TINY_YAML) == 0
    assert "unused: _[2J:smile:[/red]_" in capsys.readouterr().out
    assert export_jn(file, "-o", tmp_path / "b", "--config", TINY_YAML, "--json") == 0
    assert "\x1b[2J:smile:[/red]\ud800" in json.loads(capsys.readouterr().out.encode())["unused"]
    manifest = json.loads((tmp_path / "b" / "bundle.json").read_text())
    assert manifest["source"]["checkpoint"] == "a_.pth"
    manifest |= {"name": "[/red]", "license": "\x1b[2J\ud800"}
    (tmp_path / "b" / "bundle.json").write_text(json.dumps(manifest))
    for option in ((), ("--json",)):
        assert export_jn("inspect", tmp_path / "b", *option) == 0
        assert "\x1b" not in capsys.readouterr().out.encode().decode()


def test_this_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert export_jn(TINY, "-o", ".", "--config", TINY_YAML) == 0
    assert Bundle.open(tmp_path / "here").name == "here"


def test_a_checkpoint_in_the_bundle_is_not_lost(
    tmp_path: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The old bundle's folder goes, and whatever lies in it."""
    place = tmp_path / "place"
    shutil.copytree(tiny_bundle, place)
    shutil.copy(TINY, place / "a.pth")
    shutil.copy(TINY_YAML, place / "a.yaml")
    for checkpoint, config in ((place / "a.pth", TINY_YAML), (TINY, place / "a.yaml")):
        assert export_jn(checkpoint, "-o", place, "--config", config) == 2
        assert "holds a.pth, which is no part of the bundle" in one_line(capsys)
    assert (place / "a.pth").exists()


def test_the_folder_of_a_link_speaks(tmp_path: Path) -> None:
    """Stores of files keep them under their digests and link to them."""
    folder, store = tmp_path / "vitb_256_mae_ce_32x4_ep300", tmp_path / "blobs"
    folder.mkdir()
    store.mkdir()
    from jntrt.export.checkpoint import read_checkpoint

    state = {k: torch.from_numpy(v) for k, v in read_checkpoint(OFFICIAL).weights.items()}
    torch.save(state, store / "0a1b")
    (folder / "a.pth").symlink_to(store / "0a1b")
    assert export_jn(folder / "a.pth", "-o", tmp_path / "b", "--heads", 4) == 0
    assert Bundle.open(tmp_path / "b").recipe["ce_layers"] == [3, 6, 9]


def test_weights_inside_a_training_module_are_led_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """PyTorch Lightning saves a network under the name that its module has for it."""
    from jntrt.export.checkpoint import read_checkpoint

    state = {f"net.{k}": torch.from_numpy(v) for k, v in read_checkpoint(TINY).weights.items()}
    state["loss.weight"] = torch.ones(2)
    torch.save({"pytorch-lightning_version": "2.4.0", "state_dict": state}, tmp_path / "a.ckpt")
    options = ("-o", tmp_path / "b", "--config", TINY_YAML)
    assert export_jn(tmp_path / "a.ckpt", *options) == 2
    told = one_line(capsys)
    assert "stand under 'net'" in told
    assert "write net.*: '*' into" in told
    (tmp_path / "map.yaml").write_text("net.*: '*'\n")
    assert export_jn(tmp_path / "a.ckpt", *options, "--key-map", tmp_path / "map.yaml") == 0


def test_key_map(tmp_path: Path) -> None:
    from jntrt.export.checkpoint import read_checkpoint

    state = {
        k.replace("backbone.", "body."): torch.from_numpy(v) for k, v in read_checkpoint(TINY).weights.items()
    }
    torch.save(state, tmp_path / "a.pth")
    (tmp_path / "map.yaml").write_text("body.*: backbone.*\n")
    options = ("--config", TINY_YAML, "--key-map", tmp_path / "map.yaml")
    assert export_jn(tmp_path / "a.pth", "-o", tmp_path / "b", *options) == 0


def test_help_is_quick_and_loads_no_torch() -> None:
    code = (
        "import sys; sys.argv = ['export-jn', '--help']\n"
        "from jntrt.export.cli import main\n"
        "assert main() == 0\n"
        "assert not {'torch', 'onnx', 'onnxruntime', 'yaml', 'cv2'} & sys.modules.keys()\n"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "inspect" in told.stdout


@pytest.mark.parametrize("module", ["torch", "onnx", "yaml", "onnxruntime"])
def test_a_missing_extra_is_named(module: str, tmp_path: Path) -> None:
    arguments = ["export-jn", str(TINY), "-o", str(tmp_path / "a"), "--config", str(TINY_YAML)]
    code = (
        f"import sys; sys.modules[{module!r}] = None\n"
        f"sys.argv = {arguments!r}\n"
        "from jntrt.export.cli import main\n"
        "sys.exit(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1
    assert 'pip install "jntrt[export]"' in done.stderr
    assert not (tmp_path / "a").exists()
