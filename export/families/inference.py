"""What every family's inference does alike: flags before YAML before default, and a row for each decision.

A default that only a published network has is None for any other; what then nobody said is collected and
named in one refusal.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Literal

from jntrt.export.experiment_yaml import ExperimentYaml
from jntrt.export.families.contract import Recipe
from jntrt.runtime.errors import UserError

NOT_KNOWN = "not known: default"
"""The source of what nobody said and no box depends on."""


def flag(help: str, example: str = "") -> Any:
    """A field of a dataclass of flags: None until the user says something. `example`: its value in errors."""
    return field(default=None, metadata={"help": help, "example": example})


def flag_name(what: str) -> str:
    """How the command line calls the field or row `what`."""
    return "--" + what.replace("_", "-").replace(" ", "-")


@dataclass(frozen=True)
class CommonFlags:
    """What the user said on the command line of any family's checkpoint; None where nothing was said."""

    family: str | None = flag("The tracker's family. Default: what the weights show.")
    presence_threshold: float | None = flag("Score under which the target counts as lost. Default 0.25.")
    license: str | None = flag("Licence of the weights, for the manifest.")
    trained: Literal["yes", "no", "unknown"] | None = flag(
        "Whether the weights are trained, for the manifest."
    )


@dataclass(frozen=True)
class Inferred:
    """The recipe, the manifest's other facts, and a row (what, value, source) for each thing decided."""

    recipe: Recipe
    presence_threshold: float
    license: str
    weights: str
    rows: tuple[tuple[str, str, str], ...]

    @property
    def not_known(self) -> tuple[str, ...]:
        """What of the rows is a mere default."""
        return tuple(what for what, _, source in self.rows if source == NOT_KNOWN)


class Inference:
    """Collects the rows of an inference; a family's own asks `choose` and ends with `inferred`."""

    def __init__(self, flags: CommonFlags, config: ExperimentYaml) -> None:
        self.flags, self.config = flags, config
        self.rows: list[tuple[str, str, str]] = []
        self.missing: list[str] = []

    def row(self, what: str, value: object, source: str) -> None:
        """Notes that `what` (a field's name) is `value`."""
        text = ",".join(map(str, value)) or "none" if isinstance(value, tuple) else str(value)
        self.rows.append((what.replace("_", " "), text, source))

    def choose(self, what: str, configured: Any, default: Any, source: str) -> Any:
        """Flag, else YAML, else `default` of `source`, noting which it was; None: it is missing."""
        said = getattr(self.flags, what)
        if said is not None:
            value, source = said, flag_name(what)
        elif configured is not None:
            value, source = configured, self.config.name
        else:
            value = default
        if value is None:
            self.missing.append(what)
        else:
            self.row(what, value, source)
        return value

    def complete(self) -> None:
        """Raises `UserError` where something is missing; it names all of it, by flag."""
        if self.missing:
            examples = {f.name: f.metadata["example"] for f in fields(self.flags)}
            names = ", ".join(what.replace("_", " ") for what in self.missing)
            say = ", ".join(f"{flag_name(what)} {examples[what]}".rstrip() for what in self.missing)
            raise UserError(
                f"the weights do not show {names}, and nothing else says it for a network of these sizes: "
                f"say {say}, or give --config"
            )

    def inferred(self, recipe: Recipe) -> Inferred:
        """The recipe with the facts that every manifest has."""
        threshold = self.choose("presence_threshold", self.config.presence_threshold, 0.25, NOT_KNOWN)
        if not 0 <= threshold <= 1:
            raise UserError(f"presence threshold {threshold:g} is not in 0…1")
        license_name = self.choose("license", self.config.license, "unknown", NOT_KNOWN)
        trained = self.choose("trained", self.config.trained, "unknown", NOT_KNOWN)
        state = {"yes": "trained", "no": "untrained", "unknown": "unknown"}.get(trained)
        if state is None:
            raise UserError(f"--trained {trained}: say yes, no or unknown")
        return Inferred(recipe, float(threshold), license_name, state, tuple(self.rows))
