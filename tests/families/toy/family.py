"""The toy's contract; the box keeps the size that the state has."""

from dataclasses import asdict, dataclass

from jntrt.export.families.contract import Published, Supported
from jntrt.export.families.inference import CommonFlags, Inference, flag

KERNEL = 4  # cells of the template's middle that are looked for
CELL = 4  # pixels


@dataclass(frozen=True)
class Recipe:
    """Crop sizes in pixels; `gain` of the scores before the softmax."""

    template_size: int
    search_size: int
    gain: float = 50.0

    def to_dict(self):
        return asdict(self)

    @classmethod
    def from_dict(cls, values):
        return cls(**{key: values[key] for key in ("template_size", "search_size", "gain") if key in values})

    @property
    def side(self):
        return self.search_size // CELL - KERNEL + 1


@dataclass(frozen=True)
class Flags(CommonFlags):
    gain: float | None = flag("How much the best place counts.")


def recognise(weights):
    return "toy.mix" if "toy.mix.weight" in weights else None


def own_names(weights):
    return weights


def infer(weights, config, flags, names):
    from jntrt.export.experiment_yaml import ExperimentYaml

    config = config or ExperimentYaml("", {})
    inference = Inference(flags, config)
    inference.row("search_size", 64, "weights")
    gain = inference.choose("gain", config.number("GAIN"), 50.0, "default")
    return inference.inferred(Recipe(32, 64, gain))


def experiment(recipe):
    return {"GAIN": recipe.gain}


def plain(recipe):
    from .network import Toy

    return Toy(recipe)


def graphs(recipe, weights, batch):
    from .network import build

    return build(recipe, weights, batch)


def conventions(recipe):
    return {
        "template": {"size": recipe.template_size, "factor": 2.0, "border": "mean"},
        "search": {"size": recipe.search_size, "factor": 4.0, "border": "mean"},
        "state": {"clip": "centre", "least_size": 6},
        "state_inputs": {"previous_size": "size"},
    }


def side_inputs(recipe, box):
    return {}


def macs(recipe):
    return 3 * (recipe.template_size**2 + recipe.search_size**2)


def published(recipe):
    return Published("toy", 1000.0, "imagined", "an abacus")


SUPPORTED = [Supported("Toy", "toy.mix", "--gain", "none", "1000 FPS, an abacus")]
NETWORKS = {"tiny": Recipe(32, 64)}
