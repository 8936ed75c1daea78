"""A child of `isolated`: COUNT damaged checkpoints, from SEED, are read and their recipe inferred."""

import os
import random
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from tempfile import TemporaryDirectory

from isolated import attempts
from mutate import damage

GOLDEN = Path(__file__).parents[1] / "data" / "golden"


def sources() -> list[Path]:
    found = [*(GOLDEN / "checkpoints").rglob("*"), *GOLDEN.rglob("*.safetensors")]
    return sorted(f for f in found if f.is_file() and f.suffix in (".pth", ".tar", ".safetensors"))


def main(seed: int, count: int) -> None:
    from torch import device

    from jntrt.export.checkpoint import read_checkpoint
    from jntrt.export.families import family, recognise
    from jntrt.export.families.plain import load_weights

    files = sources()
    # Changes in the weights' numbers say little: most of the damage goes to the smallest files.
    files.sort(key=lambda file: file.stat().st_size)

    def attempt(name: str) -> None:
        draw = random.Random(f"{seed} {name}")
        source = files[min(int(draw.expovariate(4 / len(files))), len(files) - 1)]
        with TemporaryDirectory() as folder:
            path = Path(folder) / source.name
            path.write_bytes(damage(source.read_bytes(), draw))
            checkpoint = read_checkpoint(path)
        kind = family(recognise(checkpoint.weights)[0])
        # What weights do not show.
        told = {"heads": 2, "ce_layers": "none", "target_box_format": "cxcywh"}
        told |= {"template_factor": 2.0, "search_factor": 4.0}
        told |= {"window_influence": 0.4, "penalty_k": 0.1, "rate": 0.4}
        flags = kind.Flags(**{f.name: told[f.name] for f in fields(kind.Flags) if f.name in told})
        recipe = kind.infer(checkpoint.weights, None, flags, []).recipe
        with device("meta"):
            load_weights(kind.plain(recipe), checkpoint.weights)

    def names() -> Iterator[str]:
        for number in range(int(os.environ["JNTRT_FUZZ_FROM"]), count):
            yield f"checkpoint {number}"

    attempts(names(), attempt)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
