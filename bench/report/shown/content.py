"""What a report says, from its JSON: sections of words, tables and charts."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jntrt.bench.accuracy.baselines import STATIC
from jntrt.bench.report.shown import charts
from jntrt.bench.report.shown.blocks import Block, Chart, Folded, Heading, Table, Text
from jntrt.bench.report.shown.layer_tables import layer_blocks
from jntrt.bench.report.shown.rtx2080ti_tables import rtx2080ti_blocks
from jntrt.bench.report.shown.words import METHOD, counted, fps_of, share, short, time_of

Document = Mapping[str, Any]
PERCENTILES = ("p90", "p95", "p99", "p99.9")


def title(document: Document) -> str:
    """The page's title."""
    measured = [*document.get("engines", ()), *document.get("pipeline", ())]
    names = dict.fromkeys(engine["bundle"] for engine in measured)
    return f"How fast: {', '.join(names)}" if names else "How fast"


def content(document: Document) -> list[Block]:
    """All sections that the document has."""
    parts: list[Block] = [*_head(document)]
    for key, section in (
        ("accuracy", _tradeoff),
        ("engines", _stages),
        ("engines", _frames),
        ("pipeline", _pipeline),
        ("threads", _threads),
        ("targets", _targets),
        ("cost", _cost),
        ("layers", layer_blocks),
        ("rtx2080ti", rtx2080ti_blocks),
    ):
        if document.get(key):
            parts += section(document)
    return [*parts, *_method(document)]


def _head(document: Document) -> Iterator[Block]:
    machine = document["machine"]
    memory = f", {machine['memory_gb']:g} GB" if machine.get("memory_gb") else ""
    gpu = f", {machine['gpu']}" if machine.get("gpu") else ""
    yield Text(
        f"Measured on {document['created'][:16].replace('T', ' ')} UTC: {machine['processor']},"
        f" {counted(machine['cores'], 'core')}{memory}{gpu}, {machine['system']}."
    )
    words = [engine["verdict"]["word"] for engine in document.get("engines", ())]
    if words:
        verdicts = ", ".join(f"{words.count(word)} {word}" for word in dict.fromkeys(words))
        yield Text(
            f"Figures of {counted(len(words), 'engine')}: {verdicts}. What is not quiet says why below."
        )


def _tradeoff(document: Document) -> Iterator[Block]:
    accuracy = document["accuracy"]
    rows = accuracy["trackers"]
    frames = sum(clip["frames"] for clip in accuracy["clips"])
    yield Heading("Accuracy against speed")
    yield Chart(
        charts.tradeoff(rows),
        f"AO, mean over {counted(len(accuracy['clips']), 'clip')} ({frames} frames), against the speed of"
        " one update on the same frames. Upper right is better. Bars: 95 % bootstrap interval over clips.",
    )
    body = [
        (
            *(short(row["bundle"]), "" if row["precision"] == "none" else row["precision"], share(row["ao"])),
            *(f"{share(row['ao_low'])} … {share(row['ao_high'])}", share(row["sr50"]), share(row["auc"])),
            str(row["frames"]),
            *(("-", "-") if row["name"] == STATIC else (time_of(row["ms"]), fps_of(row["ms"]))),
        )
        for row in sorted(rows, key=lambda row: -(row["ao"] or 0))
    ]
    cut = f" Of each clip the first {accuracy['max_frames']} frames." if accuracy.get("max_frames") else ""
    if any(row["frames"] < frames for row in rows):
        cut += " With fewer frames a slow tracker saw the first of each clip: its AO is not to be compared."
    untrained = sorted({row["bundle"] for row in rows if row["kind"] == "untrained"})
    if untrained:
        cut += f" {', '.join(untrained)}: random weights, whose AO says nothing."
    yield Table(
        ("tracker", "precision", "AO", "95 %", "SR.5", "AUC", "frames", "ms", "FPS"),
        body,
        f"First frames are not counted. ms: median of one update, decoding not in it. {STATIC}: the first box"
        f" for ever, whose speed says nothing.{cut}",
    )
    engines = {(e["bundle"], e["precision"]): e for e in document.get("engines", ())}
    gates = [row for row in map(_gate_row, engines.values()) if row]
    if gates:
        yield Table(
            ("bundle", "precision", "judged by", "figure", "passed", ""),
            gates,
            "Parity: the graphs against the network in PyTorch at export. Gate: the precision against fp32 on"
            " data that it was not calibrated on. bf16 is fp32's graph, which the engine computes in bf16: it"
            " was not judged by itself, its AO is above.",
        )


def _gate_row(engine: Mapping[str, Any]) -> tuple[str, ...] | None:
    gate, check = engine.get("gate"), engine.get("check")
    first = (short(engine["bundle"]), engine["precision"])
    if gate:
        figure = f"median IoU {gate['crops']['median_iou']:.4f}"
        return (
            *first,
            "gate",
            figure,
            "yes" if gate["passed"] else "no",
            "; ".join(gate.get("failures", ())),
        )
    if check:
        figure = f"box {check['box']:.1e}, score {check['score']:.1e}"
        return (*first, "parity", figure, "yes" if check["passed"] else "no", "")
    return None


def _stages(document: Document) -> Iterator[Block]:
    engines, video = document["engines"], document.get("video") or {}
    yield Heading("A frame, stage by stage")
    names = ("first box", "template", "decode", "crop", "network", "box", "draw", "encode", "update", "FPS")
    body = []
    for engine in engines:
        stages, start = engine["stages_ms"], engine["start_ms"]
        body.append(
            (
                _named(engine),
                *(f"{start['first_box'] / 1e3:.2f} s", time_of(start["template"])),
                *(time_of(stages[name]["p50"]) for name in ("decode", "crop", "network", "box")),
                *(time_of(video.get(f"{name}_ms")) for name in ("draw", "encode")),
                *(time_of(stages["frame"]["p50"]), fps_of(stages["frame"]["p50"])),
            )
        )
    size = f" of {video['width']}×{video['height']}" if video else ""
    yield Table(
        ("median ms", *names),
        body,
        f"Frames{size}. first box: from the process's start to the first box. template: showing the target"
        " again, warm. update: crop, network, box and what is between; FPS = 1000 / update. draw and encode:"
        " measured once, by themselves, as trtrun --save does them. decode, draw and encode run beside the"
        " tracker in trtrun. †: failed its accuracy gate.",
    )
    # A section is left out by its one word, an engine by bundle and precision.
    missing = [f"{row['what']} ({row['why']})" for row in document["left_out"] if " " in row["what"]]
    if missing:
        yield Text(f"Not measured: {'; '.join(missing)}.")
    known = [p for p in PERCENTILES if any(e["stages_ms"]["frame"][p] is not None for e in engines)]
    yield Table(
        ("update, ms", "frames", "median", "95 %", *known, "verdict", "why"),
        [_spread_row(engine, known) for engine in engines],
        "95 %: bootstrap interval of the median, rounds drawn. - , or no column: too few frames; p90 asks for"
        " 64, p95 for 130, p99 for 662, p99.9 for 4603.",
    )


def _spread_row(engine: Mapping[str, Any], known: Sequence[str]) -> tuple[str, ...]:
    figures = engine["stages_ms"]["frame"]
    return (
        _named(engine),
        str(sum(len(taken) for taken in engine["frames_ms"])),
        *(time_of(figures["p50"]), _interval(figures)),
        *(time_of(figures[name]) for name in known),
        *(engine["verdict"]["word"], "; ".join(engine["verdict"]["reasons"])),
    )


def _named(engine: Mapping[str, Any]) -> str:
    gate = engine.get("gate")
    return short(engine["label"]) + (" †" if gate and not gate["passed"] else "")


def _frames(document: Document) -> Iterator[Block]:
    engines = document["engines"]
    yield Chart(
        charts.distribution(engines),
        "Frames of each engine: thin 5 to 95 %, thick 25 to 75 %, mark: median.",
    )
    yield Chart(
        charts.series(engines),
        "The same frames in the run's order, over the engine's median (above 2: drawn at 2). Line: each"
        " round's median. A rising line is a drift or a throttle.",
    )


def _pipeline(document: Document) -> Iterator[Block]:
    yield Heading("The whole command")
    body = [
        (
            *(short(row["label"]), str(row["frames"]), f"{row['seconds']:.2f}"),
            *(f"{row['fps']:.1f}", f"{row['cpu_seconds']:.2f}", str(len(row["rounds"]))),
        )
        for row in document["pipeline"]
    ]
    yield Table(
        ("trtrun", "frames", "s", "FPS", "CPU s", "runs"),
        body,
        "From its start to its end with --out and --save: decoding in a thread of its own, tracking, drawing,"
        " encoding. Medians over runs; the start, some tenths of a second, is in them. CPU: of all threads.",
    )


def _threads(document: Document) -> Iterator[Block]:
    rows = document["threads"]
    yield Heading("Threads")
    yield Chart(charts.counts(rows, "threads", "threads of the engine"), "fp32.")
    yield _count_table(rows, "threads")


def _targets(document: Document) -> Iterator[Block]:
    rows = document["targets"]
    yield Heading("Targets at once")
    yield Chart(charts.counts(rows, "targets", "targets in one call (B)"), "fp32, random weights.")
    yield _count_table(rows, "targets")


def _count_table(rows: Sequence[Mapping[str, Any]], name: str) -> Table:
    first = {row["bundle"]: row for row in reversed(rows)}
    body = []
    for row in rows:
        times, base = row["stages_ms"], first[row["bundle"]]["stages_ms"]["network"]["p50"]
        each = times["network"]["p50"] / row[name] if name == "targets" else times["network"]["p50"]
        body.append(
            (
                *(short(row["bundle"]), str(row[name]), time_of(times["network"]["p50"])),
                *(_interval(times["network"]), time_of(times["frame"]["p50"]), f"{base / each:.2f}"),
            )
        )
    gain = "times as fast" if name == "threads" else "per target, times as fast"
    return Table(("bundle", name, "network ms", "95 %", "update ms", gain), body)


def _cost(document: Document) -> Iterator[Block]:
    yield Heading("What a keep ratio or a search size costs")
    for axis, words in (
        ("keep_ratio", "keep ratio of each elimination"),
        ("search_size", "side of the search crop (pixels)"),
    ):
        rows = [row for row in document["cost"] if row["axis"] == axis]
        if not rows:
            continue
        yield Chart(
            charts.cost(rows, axis, words),
            "Networks of the bundle's recipe, changed in this one value, with random weights, fp32.",
        )
        body = [
            (
                *(short(row["bundle"]), f"{row['value']:g}", _giga(row["macs"]["plain"])),
                *(_giga(row["macs"]["fast"]), time_of(row["stages_ms"]["network"]["p50"])),
                _interval(row["stages_ms"]["network"]),
            )
            for row in rows
        ]
        yield Table(
            ("bundle", axis.replace("_", " "), "plain G", "graph G", "network ms", "95 %"),
            body,
            "G: 10⁹ multiply-accumulates of linear and convolution layers, as papers count them; plain: the"
            " network as the paper says it, graph: the exact fast form that runs.",
        )


def _method(document: Document) -> Iterator[Block]:
    yield Heading("Method and machine")
    for words in METHOD:
        yield Text(words)
    conditions = document.get("conditions")
    if conditions:
        means = conditions["means"]
        told = {
            "clock (MHz)": means["megahertz"],
            "taken by the hypervisor (%)": 100 * (means["steal"] or 0),
            "other processes (%)": 100 * (means["others"] or 0),
            "package power (W)": means["watts"],
            "GPU clock (MHz)": means["gpu_megahertz"],
            "GPU power (W)": means["gpu_watts"],
        }
        rows = [(name, "not told" if value is None else f"{value:.1f}") for name, value in told.items()]
        yield Table(
            ("during the run", "mean"), [row for row in rows if "GPU" not in row[0] or row[1] != "not told"]
        )
    if document["left_out"]:
        rows = [(row["what"], row["why"]) for row in document["left_out"]]
        yield Table(("left out", "why"), rows)
    machine = document["machine"]
    digests = [
        (
            short(e["label"]),
            e["bundle_sha256"][:12],
            (e["graph_sha256"] or {}).get("track", "-")[:12],
            _about(e),
        )
        for e in document.get("engines", ())
    ]
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    yield Folded(
        "Versions and digests",
        (
            Text(f"Python {machine['python']}; {versions}"),
            Text(f"Command: {document['command']} ({document['seconds']:.0f} s)"),
            Table(("engine", "bundle sha256", "track graph", ""), digests),
        ),
    )


def _about(engine: Mapping[str, Any]) -> str:
    about = engine["about"]
    return ", ".join(f"{key} {value}" for key, value in about.items() if key not in ("bundle", "batch"))


def _interval(figures: Mapping[str, Any]) -> str:
    return "-" if figures["low"] is None else f"{time_of(figures['low'])} … {time_of(figures['high'])}"


def _giga(macs: float) -> str:
    return f"{macs / 1e9:.2f}" if macs >= 1e10 else f"{macs / 1e9:.3f}"
