"""Tiny training data, drawn here: photographs, cut-outs, silhouettes, annotated sequences."""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from jntrt.export.families import family
from jntrt.export.families.crops import conventions_of
from jntrt.export.families.ostrack.objective import Settings
from jntrt.export.families.ostrack.recipe import Recipe
from jntrt.train.data.assets import Assets
from jntrt.train.data.pairs import PairSource
from jntrt.train.data.videos import VideoPairs
from jntrt.train.run.config import TrainConfig


def draw_data(folder: Path) -> Path:
    """images/ and masks/ with seven files of each kind: six for training, one for validation."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    for kind in ("sky", "fluent", "shapes"):
        (folder / "masks" / kind).mkdir(parents=True)
    for number in range(7):
        coarse = rng.integers(0, 256, (9, 12, 3)).astype(np.uint8)
        photo = cv2.resize(coarse, (200, 150), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(folder / "images" / f"photo_{number}.jpg"), photo)
        mask = np.zeros((40, 48), np.uint8)
        cv2.ellipse(mask, (24, 20), (10 + 2 * number, 12), 10 * number, 0, 360, 255, -1)
        cv2.imwrite(str(folder / "masks" / "shapes" / f"shape_{number}.png"), mask)
        for kind in ("sky", "fluent"):
            colour = rng.integers(0, 256, (40, 48, 3)).astype(np.uint8)
            cv2.imwrite(str(folder / "masks" / kind / f"thing_{number}.png"), np.dstack((colour, mask)))
    return folder


def walking_square(folder: Path, seed: int, frames: int = 8, gone: tuple[int, ...] = ()) -> Path:
    """A GOT-10k sequence: a bright square walks over a dark frame; absent in the frames `gone`."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    colour, lines = rng.integers(100, 256, 3), []
    for number in range(frames):
        frame = np.full((90, 120, 3), 20, np.uint8)
        x, y = 20 + 5 * number, 30 + 2 * number
        if number not in gone:
            frame[y : y + 18, x : x + 22] = colour
        cv2.imwrite(str(folder / f"{number + 1:08d}.png"), frame)
        lines.append(f"{x},{y},22,18")
    (folder / "groundtruth.txt").write_text("\n".join(lines) + "\n")
    (folder / "absence.label").write_text("".join(f"{int(n in gone)}\n" for n in range(frames)))
    return folder


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_data(tmp_path_factory.mktemp("data"))


@pytest.fixture
def draw_sequence() -> Callable[..., Path]:
    """`walking_square`."""
    return walking_square


def pair_source(
    config: TrainConfig, assets: Assets | None, videos: VideoPairs | None = None, **shares: float
) -> PairSource:
    """Pairs for the network of `config`."""
    crops = conventions_of(family(config.family), config.recipe)
    return PairSource(config.objective(), crops, assets, videos, **shares)


@pytest.fixture
def tiny() -> TrainConfig:
    """A network of two narrow blocks, six steps."""
    recipe = Recipe(
        family="jn",
        template_size=32,
        template_factor=2.0,
        search_size=64,
        search_factor=4.0,
        dim=32,
        depth=2,
        heads=2,
        mlp_dim=64,
        head="distribution",
        head_channels=16,
        bins=17,
        quality_dim=16,
        target_hidden=4,
        ce_layers=(1,),
        keep_ratio=(0.7,),
    )
    return TrainConfig(
        name="tiny",
        family="ostrack",
        recipe=recipe,
        settings=Settings(ce_start=2, ce_warm=2),
        steps=6,
        batch=4,
        lr=1e-3,
        warmup=2,
        decay="linear",
        clip=1.0,
        ema=0.9,
        synthetic=1.0,
        start="principal",
    )


@pytest.fixture
def tiny_file(tiny: TrainConfig, tmp_path: Path) -> Path:
    """`tiny` as a YAML file."""
    values = {k: v for k, v in tiny.to_dict().items() if k != "name"}
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(json.loads(json.dumps(values))))  # lists in place of tuples
    return path
