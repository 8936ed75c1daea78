"""What a calibration leaves in a bundle: graphs, gate figures, `calibration.json`, `calibration.html`.

The graphs and the manifest come first and in one step (`runtime.bundle.add_precision`): whenever the process
dies, the bundle is the old one or the new one. The two reports are each replaced whole, after it. Where the
gate refuses, they alone are written: what it measured stands in them as refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jntrt.calib.precisions.ranges import BINS, SMALLEST, Magnitudes, percentile_range, squared_error
from jntrt.calib.report import page
from jntrt.calib.result import Calibrated
from jntrt.runtime.bundle import Bundle, add_precision
from jntrt.runtime.command.files import replacing
from jntrt.runtime.engines.precision import PRECISIONS
from jntrt.runtime.errors import UserError

CALIBRATION = "calibration.json"
REPORT = "calibration.html"
FORMAT = 1
HISTOGRAMS = 10  # of the worst layers
PLOT_BINS = 128


def write_precision(
    bundle: Bundle, result: Calibrated, calibrated_on: Sequence[str], judged_on: Sequence[str]
) -> Bundle:
    """Adds the result's precision to the bundle on disk, and its reports."""
    candidate = result.candidate
    files: dict[str, bytes] = {candidate.track_file: candidate.models.track.SerializeToString()}
    if candidate.template_file != bundle.entry("fp32")["template"]["file"]:
        files[candidate.template_file] = candidate.models.template.SerializeToString()
    entry = {
        "template": {"file": candidate.template_file},
        "track": {"file": candidate.track_file},
        "memory": "float16" if candidate.kind.fp16 else "float32",
        "gate": gate_entry(result),
    }
    changed = add_precision(bundle, candidate.precision, files, entry)
    record = _read_record(bundle.path / CALIBRATION)
    record["precisions"][candidate.precision] = describe(result, calibrated_on, judged_on)
    record["refused"].pop(candidate.precision, None)
    _write_record(bundle, record)
    return changed


def write_refusal(
    bundle: Bundle, result: Calibrated, calibrated_on: Sequence[str], judged_on: Sequence[str]
) -> str:
    """Writes what was refused into the bundle's reports alone; where it is, in words."""
    try:
        record = _read_record(bundle.path / CALIBRATION)
        record["refused"][result.candidate.precision] = describe(result, calibrated_on, judged_on)
        _write_record(bundle, record)
    except UserError as error:  # the refusal is what counts
        return f"not kept: {error}"
    return str(bundle.path / REPORT)


def _write_record(bundle: Bundle, record: Mapping[str, Any]) -> None:
    with replacing(bundle.path / CALIBRATION) as stream:
        stream.write(json.dumps(record, indent=1) + "\n")
    with replacing(bundle.path / REPORT) as stream:
        stream.write(page(bundle.name, record["precisions"], record["refused"]))


def gate_entry(result: Calibrated) -> dict[str, Any]:
    """The gate's figures as bundle.json carries them."""
    entry = result.verdict.to_dict()
    if result.ranges:
        entry["int8_share"] = round(result.share, 4)
        entry["kept_layers"] = list(result.kept)
        entry["method"] = "given" if result.options.ranges else result.options.method
        entry["weight_bits"] = result.options.weight_bits
    else:
        entry["float32_places"] = len(result.float32)
    return entry


def describe(result: Calibrated, calibrated_on: Sequence[str], judged_on: Sequence[str]) -> dict[str, Any]:
    """Everything that was seen and chosen, for calibration.json."""
    seen = result.observations.magnitudes
    errors = {name: relative_error(m, result.ranges.get(name, m.largest)) for name, m in seen.items()}
    worst = sorted(errors, key=lambda name: -errors[name])[:HISTOGRAMS]
    options = result.options
    return {
        "crops": options.crops,
        "seed": options.seed,
        "method": "given" if options.ranges else options.method,
        "weight_bits": options.weight_bits,
        "calibrated_on": list(calibrated_on),
        "judged_on": list(judged_on),
        "gate": gate_entry(result),
        "ranges": dict(result.ranges),
        "observed": {
            name: {
                "largest": m.largest,
                "p99.99": percentile_range(m, 99.99) if m.largest > 0 else 0.0,
                "relative_error": errors[name],
            }
            for name, m in seen.items()
        },
        "peaks": result.observations.peaks,
        "histograms": {name: _histogram(seen[name]) for name in worst},
        "sensitivity": [{"place": item.place, "error": item.error} for item in result.worst],
        "kept": list(result.kept),
        "float32": list(result.float32),
    }


def relative_error(seen: Magnitudes, limit: float) -> float:
    """RMS error of int8 with range `limit`, as a share of the tensor's own RMS."""
    if seen.largest <= SMALLEST:
        return 0.0
    power = float((seen.centres**2 * seen.counts).sum() / seen.counts.sum())
    return float(np.sqrt(squared_error(seen, limit) / power))


def read_ranges(file: Path, precision: str) -> dict[str, float]:
    """The ranges of `precision` in a calibration.json (or of another int8 where it has only that).

    Raises UserError when the file is not one, or when a range is no positive number.
    """
    record = _read_record(file, required=True)
    precisions = record["precisions"]
    quantised = (name for name, kind in PRECISIONS.items() if kind.int8)
    entry = next((precisions[name] for name in (precision, *quantised) if name in precisions), None)
    ranges = entry.get("ranges") if isinstance(entry, dict) else None
    if not isinstance(ranges, dict) or not ranges:
        raise UserError(f"--ranges {file}: no int8 ranges in it: give a calibration.json of an int8 bundle")
    for name, value in ranges.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not np.isfinite(value) or value <= 0:
            raise UserError(f"--ranges {file}: the range of {name} is {value!r}, not a number above zero")
    return {name: float(value) for name, value in ranges.items()}


def _read_record(file: Path, required: bool = False) -> dict[str, Any]:
    if not file.is_file():
        if required:
            raise UserError(f"--ranges {file}: no such file: give a calibration.json")
        return {"format": FORMAT, "precisions": {}, "refused": {}}
    try:
        record = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{file} is not readable JSON ({error}): delete it or calibrate anew") from error
    if not isinstance(record, dict) or not isinstance(record.get("precisions"), dict):
        raise UserError(f"{file} is no calibration.json: delete it or calibrate anew")
    if not isinstance(record.setdefault("refused", {}), dict):
        raise UserError(f"{file} is no calibration.json: delete it or calibrate anew")
    return record


def _histogram(seen: Magnitudes) -> dict[str, Any]:
    counts = seen.counts.reshape(PLOT_BINS, BINS // PLOT_BINS).sum(axis=1)
    return {"limit": seen.limit, "largest": seen.largest, "counts": counts.astype(int).tolist()}
