"""A child of `isolated`: COUNT damaged experiment files and key maps are read and asked."""

import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from isolated import attempts
from mutate import damage

CONFIGS = sorted((Path(__file__).parents[1] / "data" / "golden").rglob("*.yaml"))


def main(seed: int, count: int) -> None:
    from jntrt.export.experiment_yaml import read_experiment_yaml
    from jntrt.export.families.ostrack.experiment_file import RecipeYaml, recipe_yaml
    from jntrt.export.key_map import read_key_map

    asked = [name for name, value in vars(RecipeYaml).items() if isinstance(value, property)]

    def attempt(name: str) -> None:
        draw = random.Random(f"{seed} {name}")
        with TemporaryDirectory() as folder:
            path = Path(folder) / "a.yaml"
            path.write_bytes(damage(draw.choice(CONFIGS).read_bytes(), draw))
            if draw.random() < 0.2:
                read_key_map(path)
                return
            config = recipe_yaml(read_experiment_yaml(path))
        for name in asked:
            getattr(config, name)
        config.ce_layers()

    def names() -> Iterator[str]:
        for number in range(int(os.environ["JNTRT_FUZZ_FROM"]), count):
            yield f"yaml {number}"

    attempts(names(), attempt)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
