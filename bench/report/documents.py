"""Reports on the disk: read, checked, joined, saved in dated folders, listed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from typing import Any

from jntrt.bench.report.measured.collect import FORMAT, VERSION
from jntrt.bench.report.shown.content import content, title
from jntrt.bench.report.shown.html import page
from jntrt.bench.report.shown.markdown import text
from jntrt.runtime.command.files import replacing
from jntrt.runtime.errors import UserError

SAVED = Path("bench-results")
NAME = "report.json"
_LISTS = ("engines", "pipeline", "threads", "targets", "cost", "left_out")
_INNER = {"layers": "engines", "rtx2080ti": "rows"}  # of what is no list


def read(path: Path) -> dict[str, Any]:
    """The report in the JSON file at `path`, or in the saved folder; UserError where it is none."""
    file = path / NAME if path.is_dir() else path
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            f"{file}: cannot be read ({error.strerror}); bench-jn list shows what is saved"
        ) from None
    except (ValueError, RecursionError):
        raise UserError(f"{file}: no JSON; give what bench-jn report has written") from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise UserError(f"{file}: no report of bench-jn; give what bench-jn report has written")
    if document.get("version") != VERSION:
        raise UserError(f"{file}: of version {document.get('version')}, this jntrt reads {VERSION}")
    wrong = complaint(document)
    if wrong:
        raise UserError(f"{file}: damaged or changed: {wrong}")
    return document


def complaint(document: Mapping[str, Any]) -> str:
    """What in a report is not as the schema says, in one line; nothing where all is."""
    import jsonschema

    errors = jsonschema.Draft202012Validator(schema()).iter_errors(document)
    error = jsonschema.exceptions.best_match(errors)
    return "" if error is None else f"{error.json_path}: {error.message}"[:200]


@cache
def schema() -> dict[str, Any]:
    """The JSON schema of a report."""
    found: dict[str, Any] = json.loads(Path(__file__).with_name("schema.json").read_text(encoding="utf-8"))
    return found


def join(documents: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One report of several of the same machine, measured section by section or bundle by bundle.

    Lists are put behind each other; of what there can only be one the last stays. UserError: two machines.
    """
    joined = dict(documents[0])
    for document in documents[1:]:
        for key in ("processor", "cores"):
            ours, theirs = joined["machine"][key], document["machine"][key]
            if ours != theirs:
                raise UserError(f"reports of two machines ({ours} and {theirs}) are compared, not joined")
        before = {key: joined.get(key, []) for key in _LISTS}
        inner = {key: joined[key][rows] for key, rows in _INNER.items() if key in joined and key in document}
        joined |= {key: value for key, value in document.items() if key not in ("created", "command")}
        joined |= {key: before[key] + document.get(key, []) for key in _LISTS if key in joined}
        for key, rows in inner.items():
            joined[key] = {**document[key], _INNER[key]: rows + document[key][_INNER[key]]}
    joined["seconds"] = sum(one["seconds"] for one in documents)
    joined["left_out"] = [row for row in joined["left_out"] if row["what"] not in joined]
    return joined


def dated(base: Path) -> Path:
    """A new folder in `base`, named by the time; UserError where it cannot be made."""
    stamp = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H-%M-%S")
    try:
        for number in range(100):
            folder = base / (stamp if not number else f"{stamp}-{number}")
            if not folder.exists():
                folder.mkdir(parents=True)
                return folder
    except OSError as error:
        raise UserError(f"{base}: cannot be written to ({error.strerror}); name another by --save") from None
    raise UserError(f"{base}: a hundred runs in one second; name another folder by --save")


def write(document: dict[str, Any], stem: Path) -> list[Path]:
    """Write `stem`.json, .html and .md; the files. JSON first: the others are rendered from it alone."""
    blocks = content(document)
    name = title(document)
    files = [stem.with_name(stem.name + ending) for ending in (".json", ".html", ".md")]
    try:
        stem.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{stem.parent}: cannot be made ({error.strerror}); name another by -o") from None
    for file, words in (
        (files[0], json.dumps(document, allow_nan=False) + "\n"),
        (files[1], page(name, blocks)),
        (files[2], text(name, blocks)),
    ):
        with replacing(file) as stream:
            stream.write(words)
    return files


def saved(base: Path) -> list[dict[str, Any]]:
    """What is saved in `base`, oldest first: folder, created, seconds, bundles, how many engines and whole
    commands, how many engines quietly; `wrong` instead where a report cannot be read."""
    rows: list[dict[str, Any]] = []
    for file in sorted(base.glob(f"*/{NAME}")):
        row: dict[str, Any] = {"folder": str(file.parent)}
        try:
            document = read(file)
        except UserError as error:
            rows.append(row | {"wrong": str(error)})
            continue
        engines, commands = document.get("engines", []), document.get("pipeline", [])
        row |= {"created": document["created"], "seconds": document["seconds"]}
        row |= {"engines": len(engines), "commands": len(commands)}
        row["bundles"] = list(dict.fromkeys(taken["bundle"] for taken in [*engines, *commands]))
        row["quiet"] = sum(engine["verdict"]["word"] == "quiet" for engine in engines)
        rows.append(row)
    return rows
