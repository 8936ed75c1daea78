"""What a checkpoint's network is: read from weights, recipe name, YAML and flags, each thing with its source.

Weights decide what they show (sizes, depth, width, head). What they cannot show (the number of heads, the
elimination schedule, crop factors) comes from flags, else the YAML, else the official recipe name, else the
papers where the sizes are those of a published network; otherwise the command stops and names the flags.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from jntrt.export.families.inference import Inference, Inferred
from jntrt.export.families.ostrack.experiment_file import RecipeYaml
from jntrt.export.families.ostrack.flags import Flags
from jntrt.export.families.ostrack.published import published_sizes
from jntrt.export.families.ostrack.recipe import Recipe
from jntrt.export.families.ostrack.relatives import COMPRESSED, named_layers, released
from jntrt.export.families.ostrack.shown import shown_by
from jntrt.runtime.command.lists import parse_integers, parse_numbers
from jntrt.runtime.errors import UserError

if TYPE_CHECKING:
    from jntrt.export.families.contract import Weights

KNOWN_HEADS = {192: 3, 384: 6, 768: 12, 1024: 16}
"""Width → heads of the ViT sizes that everybody builds alike, 64 channels a head."""

PAPERS = {
    "template_factor": 2.0,
    "target_box_format": "cxcywh",
    "keep_ratio": (0.7,),
    "template_tokens": "center",
}
"""What all published networks have alike."""


def infer_recipe(
    weights: Weights,
    *,
    flags: Flags | None = None,
    config: RecipeYaml | None = None,
    names: Iterable[tuple[str, str]] = (),
) -> Inferred:
    """The recipe of `weights`. `names`: candidates for the official recipe name, with where each was found.

    Raises `UserError` where the sources disagree, and where something is in none of them; it names the flag.
    """
    return _Inference(weights, flags or Flags(), config or RecipeYaml("", {}), tuple(names)).run()


class _Inference(Inference):
    flags: Flags
    config: RecipeYaml

    def __init__(
        self, weights: Weights, flags: Flags, config: RecipeYaml, names: tuple[tuple[str, str], ...]
    ) -> None:
        super().__init__(flags, config)
        self.weights, self.names = weights, names
        self.papers: dict[str, Any] = {}
        self.papers_source = ""

    def run(self) -> Inferred:
        shown = shown_by(released(self.weights))
        for key, value in shown.items():
            self.config.agree(key, value)
        for key, value in shown.items():
            self.row(key, value, "weights")
        family = self.choose("family", self.config.family, *self.guess_family(shown))
        self.papers, self.papers_source = self.published(family, shown)
        dim = shown["dim"]
        said = {
            "heads": self.choose("heads", self.config.heads, KNOWN_HEADS.get(dim), f"width {dim}, 64 a head"),
            "template_factor": self.told("template_factor"),
            "search_factor": self.told("search_factor"),
        }
        if shown["target_hidden"]:
            said["target_box_format"] = self.told("target_box_format")
        elif self.flags.target_box_format is not None:
            raise UserError(
                "--target-box-format is for networks with a target token; these weights have none"
            )
        said |= self.elimination()
        self.complete()
        return self.inferred(Recipe(**shown, family=family, **said))

    def guess_family(self, shown: Mapping[str, Any]) -> tuple[str, str]:
        if shown["target_hidden"]:
            return "jn", "weights: target token"
        if shown["head"] == "distribution":
            return "jn", "weights: distribution head"
        if shown["qkv"] == "qv" or shown["layer_scale"]:
            return "jn", "weights: CAE's names"
        return "ostrack", "weights: none of JN's"

    def published(self, family: str, shown: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
        """What the papers say of a network of this official name, else of these sizes, and which of the two.

        Nothing for any other: the values of a published network would only make a weaker tracker of it.
        """
        size = shown["search_size"]
        said = {**PAPERS, "search_factor": 5.0 if size == 384 else 4.0}
        for name, place in self.names:
            layers = named_layers(name, shown)
            if layers is not None:
                return {**said, "ce_layers": layers}, f"{place}: {name}"
        compressed = any(name.startswith(COMPRESSED) for name in self.weights)
        if not published_sizes(family, shown, compressed=compressed):
            return {}, ""
        without = family == "jn" or compressed
        return said | ({"ce_layers": ()} if without else {}), f"published at {size}"

    def told(self, what: str) -> Any:
        """Flag, else YAML, else the papers; else it is missing."""
        return self.choose(what, getattr(self.config, what), self.papers.get(what), self.papers_source)

    # Candidate elimination ---------------------------------------------------------------------------

    def elimination(self) -> dict[str, Any]:
        """`ce_layers`, `keep_ratio` and `template_tokens`; {} where nothing is eliminated or nobody says."""
        flags, config = self.flags, self.config
        layers, source = self.layers()
        if layers is None:
            self.missing.append("ce_layers")
            return {}
        self.row("ce_layers", layers, source)
        if not layers:
            if flags.keep_ratio is not None or flags.template_tokens is not None:
                flag = "--keep-ratio" if flags.keep_ratio is not None else "--template-tokens"
                raise UserError(f"{flag} without elimination ({source} says none): say --ce-layers 3,6,9")
            return {}
        ratios: tuple[float, ...] = self.papers.get("keep_ratio", ())
        source = self.papers_source
        if flags.keep_ratio is not None:
            ratios, source = parse_numbers(flags.keep_ratio, "--keep-ratio"), "--keep-ratio"
        elif config.keep_ratio:
            ratios, source = config.keep_ratio, config.name
        if not ratios:
            self.missing.append("keep_ratio")
        else:
            if len(set(ratios)) == 1:
                ratios = ratios[:1] * len(layers)
            self.row("keep_ratio", ratios, source)
        tokens = self.told("template_tokens")
        return {"ce_layers": layers, "keep_ratio": ratios, "template_tokens": tokens}

    def layers(self) -> tuple[tuple[int, ...] | None, str]:
        said = self.flags.ce_layers
        if said is not None:
            none = said.strip().lower() == "none"
            return () if none else parse_integers(said, "--ce-layers"), "--ce-layers"
        configured = self.config.ce_layers()
        if configured is not None:
            return configured, self.config.name
        return self.papers.get("ce_layers"), self.papers_source
