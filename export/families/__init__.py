"""What a tracker is: one folder for each family, whose `family.py` offers what `contract.Family` says.

A family more is a folder more and an entry more here; nothing outside its folder knows it by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields, make_dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast, get_type_hints

from jntrt.runtime.errors import UserError

if TYPE_CHECKING:
    from jntrt.export.families.contract import Family, ObjectiveModule, Weights

FAMILIES = {
    "ostrack": "jntrt.export.families.ostrack",
    "jn": "jntrt.export.families.ostrack",  # how manifests called its second paper's trackers
    "siamese": "jntrt.export.families.siamese",
    "litetrack": "jntrt.export.families.litetrack",
}
"""Name → folder, in the order in which they are asked whose weights these are; a folder's first name is its
own."""


def family(name: str) -> Family:
    """The family called `name`, as a manifest or a flag has it; UserError for one that nobody knows."""
    if name not in FAMILIES:
        raise UserError(f"family {name!r} is unknown; there are {', '.join(FAMILIES)}")
    return cast("Family", import_module(f"{FAMILIES[name]}.family"))


def objective(name: str) -> ObjectiveModule:
    """The family's module of what it is trained for; it imports torch."""
    family(name)
    return cast("ObjectiveModule", import_module(f"{FAMILIES[name]}.objective"))


def folder_name(name: str) -> str:
    """What manifests call the family `name`: the first of its names."""
    family(name)
    return next(first for first, path in FAMILIES.items() if path == FAMILIES[name])


def folder_names() -> tuple[str, ...]:
    """The first name of every family."""
    return tuple(dict.fromkeys(map(folder_name, FAMILIES)))


def recognise(weights: Weights) -> tuple[str, str]:
    """The name of the family that knows `weights`, and by what; the first that does, in the dict's order.

    UserError where none does; it says so where one would without a word before the names, as a network
    has them that lies in a training module (PyTorch Lightning's).
    """
    found = _recognised(weights)
    if found is not None:
        return found
    for word in dict.fromkeys(name.partition(".")[0] for name in weights):
        inner = {name.removeprefix(f"{word}."): array for name, array in weights.items()}
        if _recognised(inner) is not None:
            raise UserError(
                f"the network's weights stand under {word!r}, as PyTorch Lightning and others save them: "
                f"write {word}.*: '*' into a YAML file and give it as --key-map FILE"
            )
    from jntrt.export.families.nearest import nearest  # it imports torch

    shown = ", ".join(repr(key) for key in list(weights)[:3]) or "no weights"
    near = nearest(weights, {name: family(name) for name in folder_names()})
    raise UserError(
        f"no family ({', '.join(FAMILIES)}) knows these weights under their released names ({shown}, …); "
        + "".join(f"{one}; " for one in near)
        + "--key-map FILE renames weights"
    )


def _recognised(weights: Weights) -> tuple[str, str] | None:
    for name in folder_names():
        reason = family(name).recognise(weights)
        if reason is not None:
            return name, reason
    return None


def command_flags() -> type:
    """One dataclass of all families' flags, each None by default, for a command; a shared one stands once."""
    # cyclopts is in every process that has commands, and in no other.
    from cyclopts import Parameter

    flags: dict[str, tuple[str, Any, None]] = {}
    for name in folder_names():
        kind = family(name).Flags
        types = get_type_hints(kind)
        for field in fields(kind):
            said = Parameter(help=field.metadata["help"])
            flags.setdefault(field.name, (field.name, Annotated[types[field.name], said], None))
    choices: Any = Literal[tuple(FAMILIES)]
    flags["family"] = ("family", Annotated[choices | None, flags["family"][1].__metadata__[0]], None)
    return make_dataclass("Flags", flags.values(), frozen=True, namespace={"__module__": __name__})


def family_flags(name: str, given: Mapping[str, Any]) -> Any:
    """What was `given` by flag as the family's `Flags`; UserError for a flag of another family."""
    kind = family(name).Flags
    foreign = sorted(given.keys() - {field.name for field in fields(kind)})
    if foreign:
        raise UserError(
            f"{_words(foreign)}: not for the family {name}; leave out, or name another by --family"
        )
    return kind(**given)


def _words(names: Iterable[str]) -> str:
    return ", ".join(f"--{name.replace('_', '-')}" for name in names)
