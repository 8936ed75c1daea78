"""What fine-tuning begins with: a packaged reference or any checkpoint that export-jn reads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jntrt.export.families import family, objective
from jntrt.export.families.plain import PlainForm, load_weights
from jntrt.export.pipeline import read_network
from jntrt.runtime.bundle import file_sha256
from jntrt.runtime.errors import UserError
from jntrt.train.run.config import TrainConfig

REFERENCE = Path(__file__).parents[1] / "reference"


@dataclass(frozen=True)
class Start:
    """A checkpoint, whose network it is, and what its weights may be used for."""

    path: Path
    family: str
    recipe: Any
    threshold: float
    licence: str

    @property
    def sha256(self) -> str:
        """Of the checkpoint."""
        return file_sha256(self.path)

    def model(self) -> PlainForm:
        """The network with the checkpoint's weights, in evaluation mode."""
        model = family(self.family).plain(self.recipe)
        load_weights(model, read_network(self.path)[3])
        return model.eval()

    def config(self, name: str, steps: int | None, *, negatives: bool) -> TrainConfig:
        """The family's fine-tuning of this network, `steps` long where they are given.

        negatives: whether there are pairs without the target to be had. UserError for a family without it.
        """
        usual = objective(self.family).FINE_TUNING
        if usual is None:
            raise UserError(f"{self.path}: the family {self.family} cannot be fine-tuned yet: use --config")
        said = dict(usual) | {"name": name, "family": self.family}
        said |= {"recipe": self.recipe.to_dict(), "start": str(self.path), "original": str(self.path)}
        said |= {} if steps is None else {"steps": steps}
        said |= {} if negatives else {"positive": 1.0}
        return TrainConfig.from_dict(said | {"synthetic": 0.0}, str(self.path))


def find_start(word: str) -> Start:
    """The reference called `word`, or the checkpoint at that path. UserError where it cannot be read."""
    path = Path(word)
    if not path.is_file():
        names = sorted(file.stem for file in REFERENCE.glob("*.safetensors"))
        if word not in names:
            raise UserError(f"--from {word}: no such checkpoint; name one of {', '.join(names)}, or a file")
        path = REFERENCE / f"{word}.safetensors"
    name, inferred, _, _ = read_network(path)
    return Start(path.resolve(), name, inferred.recipe, inferred.presence_threshold, inferred.license)
