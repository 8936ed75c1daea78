"""A bundle and data to another precision: observe, build, judge, and only then write."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from jntrt.bench.sequences.clips import Clip, load_clips
from jntrt.bench.sequences.workers.options import ALONE, Team, Workers
from jntrt.calib.calibration_file import read_ranges, write_precision, write_refusal
from jntrt.calib.crops import CropSet, Wanted, collect_crops, spread
from jntrt.calib.gate.judge import (
    Verdict,
    compare_crops,
    compare_sequences,
    hold_back,
    judge,
    reference_outputs,
)
from jntrt.calib.gate.sensitivity import Sensitivity, layer_errors, scan
from jntrt.calib.graph.engine import Graphs
from jntrt.calib.graph.layers import int8_share
from jntrt.calib.graph.view import Array
from jntrt.calib.observe import observe
from jntrt.calib.options import Options
from jntrt.calib.precisions.candidate import (
    Candidate,
    Models,
    load_models,
    make_candidate,
    observed_tensors,
    open_graphs,
    quantisable,
)
from jntrt.calib.precisions.fp16 import float32_places
from jntrt.calib.precisions.ranges import Observations, choose_ranges, clipped_share
from jntrt.calib.result import Calibrated, Refusal
from jntrt.runtime.bundle import Bundle, copy_bundle
from jntrt.runtime.bundle.packaged import is_packaged
from jntrt.runtime.errors import GateError, UserError
from jntrt.runtime.tracker import Tracker

MIN_INT8_SHARE = 0.6  # of the Linear and convolution MACs; less is not an int8 network
SCAN_CROPS = 16
RANGE_CROPS = 32  # held-back crops whose activations are compared with the ranges

# Called with what is being done, how much is done and of how much.
Progress = Callable[[str, int, int], None]


@dataclass
class Calibration:
    """One run of calib-jn on a bundle: holds what its steps share."""

    bundle: Bundle
    options: Options
    progress: Progress = lambda what, done, total: None
    team: Team | None = None  # who follows sequences; None: this process
    models: Models = field(init=False)

    def __post_init__(self) -> None:
        self.models = load_models(self.bundle)

    def run(self, data: Sequence[Clip], held_back: Sequence[Clip]) -> Calibrated:
        """Observe on `data`, judge on `held_back`. Raises Refusal when the gate refuses (unless forced)."""
        options = self.options
        crops = self._collect("calibration crops", data, Wanted(options.crops), options.seed)
        gate = Wanted(options.gate_crops, "--gate-crops", "--gate-data")
        judged = self._collect("gate crops", held_back, gate, options.seed + 1)
        return self.run_on(crops, judged, held_back)

    def run_on(self, crops: CropSet, judged: CropSet, held_back: Sequence[Clip]) -> Calibrated:
        """`run`, with the crops at hand."""
        options = self.options
        seen = self.observe(crops)
        quantised = options.kind.int8
        ranges: Mapping[str, float] = {}
        if quantised:
            if options.ranges is not None:
                ranges = read_ranges(options.ranges, options.precision)
            else:
                ranges = choose_ranges(seen.magnitudes, options.method, options.percentile)
        judge_of = _Judge(self, judged, _cut(held_back, options.gate_frames))
        result = self._int8(seen, ranges, judge_of) if quantised else self._float16(seen, judge_of)
        if not result.verdict.passed and not options.force:
            worst = ", ".join(f"{item.place} ({item.error:.3g})" for item in result.worst[:3])
            reasons = " and ".join(result.verdict.failures)
            raise Refusal(
                f"{options.precision} is not the same tracker: {reasons}"
                + (f"; worst layers: {worst}" if worst else ""),
                result,
            )
        return result

    def _float16(self, seen: Observations, judge_of: _Judge) -> Calibrated:
        candidate = make_candidate(self.options.precision, self.models, seen.peaks, {})
        verdict = judge_of(candidate)
        worst: tuple[Sensitivity, ...] = ()
        if not verdict.passed:
            worst = tuple(layer_errors(self.models, candidate.models.track, judge_of.crops))
        wide = tuple(float32_places(candidate.models.track))
        return Calibrated(candidate, verdict, seen, {}, self.options, worst=worst, float32=wide)

    def _int8(self, seen: Observations, ranges: Mapping[str, float], judge_of: _Judge) -> Calibrated:
        """Puts the worst layers back, one, two, four … more, until the gate passes or too few are left."""
        options, layers = self.options, quantisable(self.models)
        kept = options.kept_layers
        worst: tuple[Sensitivity, ...] = ()
        judge_of.check_ranges(ranges)
        result: Calibrated | None = None
        step = 1
        while True:
            names = {layer.name for layer in layers if layer.quantisable} - set(kept)
            share = int8_share(layers, names)
            if share < MIN_INT8_SHARE:
                too_few = f"only {share:.0%} of the MACs would be left in int8, under {MIN_INT8_SHARE:.0%}"
                if result is None:
                    raise GateError(f"{options.precision}: {too_few}: name fewer layers with --keep")
                failures = (*result.verdict.failures, f"{too_few} (try --method percentile, or more --data)")
                return replace(result, verdict=replace(result.verdict, failures=failures))
            candidate = make_candidate(
                options.precision, self.models, seen.peaks, ranges, kept, options.weight_bits
            )
            verdict = judge_of(candidate)
            wide = float32_places(candidate.models.track) if options.kind.fp16 else []
            result = Calibrated(
                candidate, verdict, seen, ranges, options, tuple(kept), worst, share, tuple(wide)
            )
            if verdict.passed or options.force:
                return result
            if verdict.clipped:  # no layer is to blame: the ranges are wrong
                return replace(
                    result, worst=tuple(Sensitivity(n, part) for n, part in verdict.clipped.items())
                )
            if not worst:
                worst = self._scan(ranges, judge_of)
                result = replace(result, worst=worst)
                if options.ranges is not None:
                    return result  # what the user wrote is judged as it is
            kept += [item.place for item in worst if item.place not in kept][:step]
            step *= 2

    def _scan(self, ranges: Mapping[str, float], judge_of: _Judge) -> tuple[Sensitivity, ...]:
        few = spread(judge_of.crops, SCAN_CROPS)
        index = {id(sample): number for number, sample in enumerate(judge_of.crops.samples)}
        total = sum(layer.quantisable for layer in quantisable(self.models))
        step = self.counter("layers scanned", total)
        found = scan(
            self.models,
            ranges,
            [judge_of.reference[index[id(sample)]] for sample in few.samples],
            few,
            weight_bits=self.options.weight_bits,
            threads=self.options.threads,
            on_layer=step,
        )
        return tuple(found)

    def _collect(self, what: str, sequences: Sequence[Clip], wanted: Wanted, seed: int) -> CropSet:
        step = self.counter(what, wanted.count)
        return collect_crops(
            self.bundle,
            sequences,
            wanted,
            seed=seed,
            threads=self.options.threads,
            on_crop=step,
            team=self.team,
        )

    def observe(self, crops: CropSet) -> Observations:
        """What the fp32 graphs' activations are over these crops."""
        return observe(
            self.models.template,
            self.models.track,
            observed_tensors(self.models),
            crops,
            threads=self.options.threads,
            on_crop=self.counter("crops observed", len(crops)),
        )

    def counter(self, what: str, total: int) -> Callable[[], None]:
        """Reports `what` as begun; each call of the result reports one more of `total` as done."""
        done = 0
        self.progress(what, 0, total)

        def step() -> None:
            nonlocal done
            done += 1
            self.progress(what, done, total)

        return step


class _Judge:
    """Judges candidates by the same held-back crops and sequences; the fp32 side is run once."""

    def __init__(self, calibration: Calibration, crops: CropSet, sequences: list[Clip]) -> None:
        self.crops = crops
        self._clipped: dict[str, float] = {}
        self._calibration = calibration
        self._sequences = sequences
        reference: Graphs = open_graphs(calibration.models, "fp32", calibration.options.threads)
        self.reference: list[dict[str, Array]] = reference_outputs(reference, crops)

    def check_ranges(self, ranges: Mapping[str, float]) -> None:
        """Observes what the held-back crops need, for the verdicts that follow."""
        calibration = self._calibration
        seen = calibration.observe(spread(self.crops, RANGE_CROPS)).magnitudes
        self._clipped = {name: clipped_share(seen[name], ranges[name]) for name in seen if name in ranges}

    def __call__(self, candidate: Candidate) -> Verdict:
        calibration, threads = self._calibration, self._calibration.options.threads
        step = calibration.counter("gate: crops", len(self.crops))
        figures = compare_crops(self.reference, candidate.graphs(threads), self.crops, step)
        thresholds = calibration.options.thresholds
        early = judge(candidate.engine, thresholds, figures, None, self._clipped)
        if not early.passed and not calibration.options.force:
            return early  # the sequences cost minutes and cannot save it
        frames = 2 * sum(len(sequence) for sequence in self._sequences)
        counted = calibration.counter("gate: frames", frames)

        def on_frame(more: int) -> None:
            for _ in range(more):
                counted()

        sequences = compare_sequences(
            partial(Tracker.from_bundle, calibration.bundle, "onnxruntime", "fp32", threads),
            candidate.tracker(calibration.bundle, threads),
            self._sequences,
            on_frame,
            calibration.team,
        )
        return judge(candidate.engine, thresholds, figures, sequences, self._clipped)


def check_changeable(bundle: Bundle, output: Path | None) -> None:
    """UserError for a packaged bundle without a folder for its copy."""
    if output is None and is_packaged(bundle):
        raise UserError(
            f"{bundle.name} is packaged with jntrt and stays as it is: add -o COPY for a folder of yours"
        )


def calibrate(
    bundle: Bundle,
    data: Sequence[str | Path],
    options: Options,
    gate_data: Sequence[str | Path] = (),
    progress: Progress = lambda what, done, total: None,
    output: Path | None = None,
    workers: Workers = ALONE,
) -> tuple[Bundle, Calibrated]:
    """Adds `options.precision` to a bundle, judged on sequences that calibration did not see.

    data: what `bench-jn accuracy` takes; without `gate_data` every fifth of these sequences is held back.
    output: a new folder: the bundle is copied there first, and the copy changed. A packaged one needs it.
    workers: who follows the sequences; the figures are the same.
    No graph is written before the gate has passed. Raises GateError when it refuses; what it measured is then
    in the bundle's calibration.json and calibration.html, as refused.
    """
    check_changeable(bundle, output)
    sequences = load_clips(data)
    if gate_data:
        held_back = load_clips(gate_data)
    else:
        sequences, held_back = hold_back(sequences)
    if output is not None:
        bundle = copy_bundle(bundle, output)
    team = workers.team(options.threads)
    if team:
        options = replace(options, threads=team.threads)
    names = [s.name for s in sequences], [s.name for s in held_back]
    try:
        result = Calibration(bundle, options, progress, team).run(sequences, held_back)
    except Refusal as refusal:
        where = write_refusal(bundle, refusal.result, *names)
        text = "no graph was written (--force writes them all the same)"
        raise GateError(f"{refusal}; {text}; figures and layers: {where}") from refusal
    except BaseException:
        if output is not None:  # the bare copy would be in the way of the next try
            shutil.rmtree(bundle.path, ignore_errors=True)
        raise
    return write_precision(bundle, result, *names), result


def _cut(sequences: Sequence[Clip], frames: int) -> list[Clip]:
    """The sequences, cut to the same length each where they have more than `frames` frames together."""
    total = sum(len(sequence) for sequence in sequences)
    if total <= frames:
        return list(sequences)
    each = max(2, frames // len(sequences))
    return [
        replace(s, boxes=s.boxes[:each], visible=s.visible[:each], images=s.images[:each]) for s in sequences
    ]
