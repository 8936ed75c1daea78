"""What a checkpoint's network is: read from weights, recipe name, YAML and flags, each thing with its source.

Weights decide what they show (sizes, depth, width, head). What they cannot show (the number of heads, the
elimination schedule, crop factors) comes from flags, else the YAML, else the official recipe name, else a
default of the paper where there is one; otherwise the command stops and names the flag.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
from jntrt.export.families.ostrack.experiment_file import RecipeYaml
from jntrt.export.families.ostrack.recipe import Recipe
from jntrt.runtime.command.lists import parse_integers, parse_numbers
from jntrt.runtime.errors import UserError

Weights = Mapping[str, npt.NDArray[Any]]

KNOWN_HEADS = {192: 3, 384: 6, 768: 12, 1024: 16}
"""Width → heads of the ViT sizes that everybody builds alike, 64 channels a head."""

_RECIPE_NAME = re.compile(r"vit[bl]_(256|384)_[\w.+-]+")
_HEAD_BRANCH = {"center": "ctr", "corner": "tl", "distribution": "cls"}
_PATCH = "backbone.patch_embed.proj.weight"
CE_HINT = "say --ce-layers 3,6,9 or --ce-layers none, or give --config"


@dataclass(frozen=True)
class Flags:
    """What the user said on the command line; None where nothing was said."""

    family: str | None = None
    heads: int | None = None
    ce_layers: str | None = None
    keep_ratio: str | None = None
    template_tokens: str | None = None
    template_factor: float | None = None
    search_factor: float | None = None
    target_box_format: str | None = None
    presence_threshold: float | None = None
    license: str | None = None
    trained: str | None = None


@dataclass(frozen=True)
class Inferred:
    """The recipe, the manifest's other facts, and a row (what, value, source) for each thing decided."""

    recipe: Recipe
    presence_threshold: float
    license: str
    weights: str
    rows: tuple[tuple[str, str, str], ...]


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


class _Inference:
    def __init__(
        self, weights: Weights, flags: Flags, config: RecipeYaml, names: tuple[tuple[str, str], ...]
    ) -> None:
        self.weights, self.flags, self.config, self.names = weights, flags, config, names
        self.rows: list[tuple[str, str, str]] = []

    def run(self) -> Inferred:
        shown = self.from_weights()
        for key, value in shown.items():
            self.config.agree(key, value)
        for key, value in shown.items():
            self.row(key, value, "weights")
        family = self.choose("family", self.config.family, *self.guess_family(shown))
        said = {
            "heads": self.choose("heads", self.config.heads, *self.known_heads(shown["dim"])),
            "template_factor": self.choose("template_factor", self.config.template_factor, 2.0, "default"),
            "search_factor": self.choose(
                "search_factor",
                self.config.search_factor,
                5.0 if shown["search_size"] == 384 else 4.0,
                f"default at {shown['search_size']}",
            ),
        }
        if shown["target_hidden"]:
            said["target_box_format"] = self.choose(
                "target_box_format", self.config.target_box_format, "cxcywh", "default"
            )
        elif self.flags.target_box_format is not None:
            raise UserError(
                "--target-box-format is for networks with a target token; these weights have none"
            )
        recipe = Recipe(**shown, family=family, **said, **self.elimination(family, shown["search_size"]))
        threshold = self.choose("presence_threshold", self.config.presence_threshold, 0.25, "default")
        if not 0 <= threshold <= 1:
            raise UserError(f"presence threshold {threshold:g} is not in 0…1")
        license_name = self.choose("license", self.config.license, "unknown", "default")
        trained = self.choose("trained", self.config.trained, "unknown", "default")
        state = {"yes": "trained", "no": "untrained", "unknown": "unknown"}.get(trained)
        if state is None:
            raise UserError(f"--trained {trained}: say yes, no or unknown")
        return Inferred(recipe, float(threshold), license_name, state, tuple(self.rows))

    def row(self, what: str, value: object, source: str) -> None:
        text = ",".join(map(str, value)) or "none" if isinstance(value, tuple) else str(value)
        self.rows.append((what.replace("_", " "), text, source))

    def choose(self, what: str, configured: Any, default: Any, source: str) -> Any:
        """Flag, else YAML, else `default`, noting which it was."""
        flag = getattr(self.flags, what)
        if flag is not None:
            value, source = flag, f"--{what.replace('_', '-')}"
        elif configured is not None:
            value, source = configured, self.config.name
        else:
            value = default
        self.row(what, value, source)
        return value

    # From names and shapes ---------------------------------------------------------------------------

    def shape(self, name: str, dimensions: int) -> tuple[int, ...]:
        if name not in self.weights:
            raise UserError(
                f"no weight {name!r} in the checkpoint, so it is no OSTrack or JN network under its released "
                "names; --key-map FILE renames weights"
            )
        shape = self.weights[name].shape
        if len(shape) != dimensions or 0 in shape:
            raise UserError(f"weight {name} has the shape {tuple(shape)}, not {dimensions} dimensions")
        return tuple(shape)

    def from_weights(self) -> dict[str, Any]:
        """All fields of the recipe that the weights show."""
        dim, _, patch, _ = self.shape(_PATCH, 4)
        found = {int(m[1]) for n in self.weights if (m := re.match(r"backbone\.blocks\.(\d{1,4})\.", n))}
        depth = len(found)
        if depth == 0 or found != set(range(depth)):
            raise UserError(
                "the checkpoint's backbone.blocks.N are not numbered 0, 1, 2, …; --key-map renames weights"
            )
        head = self.head()
        channels = self.shape(f"box_head.conv1_{_HEAD_BRANCH[head]}.0.weight", 4)[0]
        if channels % 8:
            raise UserError(f"the head's {channels} channels cannot be halved three times")
        shown: dict[str, Any] = {
            "template_size": self.side("backbone.pos_embed_z") * patch,
            "search_size": self.side("backbone.pos_embed_x") * patch,
            "dim": dim,
            "depth": depth,
            "mlp_dim": self.shape("backbone.blocks.0.mlp.fc1.weight", 2)[0],
            "patch": patch,
            "qkv": "qv" if "backbone.blocks.0.attn.q_bias" in self.weights else "qkv",
            "layer_scale": "backbone.blocks.0.gamma_1" in self.weights,
            "head": head,
            "head_channels": channels,
            "target_hidden": 0,
        }
        if "target_token_embed.fc1.weight" in self.weights:
            shown["target_hidden"] = self.shape("target_token_embed.fc1.weight", 2)[0]
        if head == "distribution":
            shown["bins"] = self.shape("box_head.conv5_reg.weight", 4)[0] // 4
            shown["quality_dim"] = self.shape("box_head.quality.fc1.weight", 2)[0]
            if shown["bins"] < 4:
                raise UserError(f"a distribution head of {shown['bins']} bins; its quality needs at least 4")
        return shown

    def side(self, name: str) -> int:
        count = self.shape(name, 3)[1]
        side = math.isqrt(count)
        if side * side != count:
            raise UserError(f"{name} has {count} positions, which is no square map")
        return side

    def head(self) -> str:
        for head, branch in _HEAD_BRANCH.items():
            if f"box_head.conv1_{branch}.0.weight" in self.weights:
                return head
        raise UserError(
            "no box head in the checkpoint (box_head.conv1_ctr, conv1_tl or conv1_cls); "
            "--key-map FILE renames weights"
        )

    def guess_family(self, shown: Mapping[str, Any]) -> tuple[str, str]:
        if shown["target_hidden"]:
            return "jn", "weights: target token"
        if shown["head"] == "distribution":
            return "jn", "weights: distribution head"
        if shown["qkv"] == "qv" or shown["layer_scale"]:
            return "jn", "weights: CAE's names"
        return "ostrack", "weights: none of JN's"

    def known_heads(self, dim: int) -> tuple[int, str]:
        if dim in KNOWN_HEADS:
            return KNOWN_HEADS[dim], f"width {dim}, 64 a head"
        if self.flags.heads is None and self.config.heads is None:
            raise UserError(f"a width of {dim} does not tell the number of attention heads: say --heads N")
        return 0, ""

    # Candidate elimination ---------------------------------------------------------------------------

    def elimination(self, family: str, search_size: int) -> dict[str, Any]:
        """`ce_layers`, `keep_ratio` and `template_tokens`."""
        flags, config = self.flags, self.config
        layers, source = self.layers(family, search_size)
        self.row("ce_layers", layers, source)
        # An official recipe's name stands for its ratio and its template row as well.
        default = "default" if source in ("--ce-layers", config.name) else source
        if not layers:
            if flags.keep_ratio is not None or flags.template_tokens is not None:
                flag = "--keep-ratio" if flags.keep_ratio is not None else "--template-tokens"
                raise UserError(f"{flag} without elimination ({source} says none): say --ce-layers 3,6,9")
            return {}
        if flags.keep_ratio is not None:
            ratios, source = parse_numbers(flags.keep_ratio, "--keep-ratio"), "--keep-ratio"
        elif config.keep_ratio:
            ratios, source = config.keep_ratio, config.name
        else:
            ratios, source = (0.7,), default
        if len(set(ratios)) == 1:
            ratios = ratios[:1] * len(layers)
        self.row("keep_ratio", ratios, source)
        tokens = self.choose("template_tokens", config.template_tokens, "center", default)
        return {"ce_layers": layers, "keep_ratio": ratios, "template_tokens": tokens}

    def layers(self, family: str, search_size: int) -> tuple[tuple[int, ...], str]:
        said = self.flags.ce_layers
        if said is not None:
            none = said.strip().lower() == "none"
            return () if none else parse_integers(said, "--ce-layers"), "--ce-layers"
        configured = self.config.ce_layers()
        if configured is not None:
            return configured, self.config.name
        for name, place in self.names:
            match = _RECIPE_NAME.fullmatch(name)
            if match and int(match[1]) == search_size:
                return ((3, 6, 9) if "ce" in name.split("_") else ()), f"{place}: {name}"
        if family == "jn":
            return (), "default (the paper's)"
        raise UserError(f"no elimination schedule in the file: {CE_HINT}")


def rename(weights: Weights, key_map: Mapping[str, str]) -> dict[str, npt.NDArray[Any]]:
    """The weights under the names that `key_map` (from → to, `*` for any text) gives; others keep theirs.

    The first entry that matches a name renames it; the n-th `*` of its right side stands for what the n-th of
    its left side met. Raises `UserError` for an entry that matches nothing, and for two weights of one name.
    """
    rules = []
    for old, new in key_map.items():
        if new.count("*") > old.count("*"):
            raise UserError(f"--key-map: {new!r} has more * than {old!r}")
        rules.append((re.compile("(.*?)".join(map(re.escape, old.split("*")))), old, new))
    used: set[str] = set()
    renamed: dict[str, npt.NDArray[Any]] = {}
    for name, array in weights.items():
        target = name
        for pattern, old, new in rules:
            if match := pattern.fullmatch(name):
                used.add(old)
                parts = new.split("*")
                target = parts[0] + "".join(a + b for a, b in zip(match.groups(), parts[1:], strict=False))
                break
        if target in renamed:
            raise UserError(f"--key-map: two weights would be called {target!r}")
        renamed[target] = array
    for old in key_map:
        if old not in used:
            raise UserError(f"--key-map: {old!r} matches no weight of the checkpoint")
    return renamed
