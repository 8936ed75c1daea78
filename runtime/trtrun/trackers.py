"""What follows the targets: engines of this process, one engine for all sources, or a server."""

import sys
from collections.abc import Callable
from contextlib import ExitStack
from fractions import Fraction

from jntrt.runtime.bundle import Bundle
from jntrt.runtime.engines.options import EngineOptions
from jntrt.runtime.engines.tensorrt.build_ahead import build_bar
from jntrt.runtime.errors import UserError
from jntrt.runtime.redetect import Redetection
from jntrt.runtime.serving.client import ServerTracker
from jntrt.runtime.tracker import Tracker
from jntrt.runtime.trtrun.options import Options
from jntrt.runtime.trtrun.run import OneEach

Opened = Tracker | OneEach | ServerTracker
# Opens what follows so many targets of a source of so many frames a second; the stack closes it.
Opener = Callable[[ExitStack, int, Fraction | None], Opened]


def opener(model: Bundle, options: Options) -> Opener:
    """For sources one after another: each opens an engine, and says on stderr which."""
    if options.server:
        return _server(options)
    return lambda stack, targets, fps: _own(stack, model, options, targets, fps)


def shared_opener(stack: ExitStack, model: Bundle, options: Options, threads: int) -> Opener:
    """For sources at once: one engine of so many threads for all of them, which `stack` closes."""
    if options.server:
        return _server(options)
    with build_bar() as bar:
        given = _engine_options(options, bar, options.threads or threads)
        first = Tracker.from_bundle(model, options.backend, options.precision, options=given)
        stack.enter_context(first)
    _say(first, options, "for all sources")

    def open_trackers(of_source: ExitStack, targets: int, fps: Fraction | None) -> Opened:
        search = _search(options, targets, fps)
        trackers = [
            of_source.enter_context(first.another(redetect=search)) for _ in range(-(-targets // model.batch))
        ]
        return trackers[0] if len(trackers) == 1 else OneEach(trackers)

    return open_trackers


def _server(options: Options) -> Opener:
    url = options.server
    assert url is not None
    return lambda stack, targets, fps: stack.enter_context(ServerTracker(url, options.send))


def _own(
    stack: ExitStack, model: Bundle, options: Options, targets: int, fps: Fraction | None
) -> Tracker | OneEach:
    """A tracker, or one for each target on a bundle of one, in one engine."""
    search = _search(options, targets, fps)
    with build_bar() as bar:
        given = _engine_options(options, bar, options.threads)
        first = Tracker.from_bundle(
            model, options.backend, options.precision, options=given, redetect=search or False
        )
        trackers = [stack.enter_context(first)]
        while len(trackers) * model.batch < targets:
            trackers.append(stack.enter_context(first.another()))
    if options.decode == "gpu" and not first.on_device:
        raise UserError(f"--decode gpu: {first.choice} runs on the CPU: leave --decode gpu out")
    _say(first, options, f"{len(trackers)} trackers, one for each target" if len(trackers) > 1 else "")
    return first if len(trackers) == 1 else OneEach(trackers)


def _engine_options(
    options: Options, bar: Callable[[str, int, int], bool], threads: int | None
) -> EngineOptions:
    return EngineOptions(
        threads=threads,
        device=options.device,
        build=options.build,
        progress=bar,
        engine_key=options.engine_key,
        own_engines=options.engine,
        trust=options.trust,
        own_graph=options.own_graph,
    )


def _search(options: Options, targets: int, fps: Fraction | None) -> Redetection | None:
    """A search for lost targets takes what a frame's time leaves."""
    return Redetection(milliseconds=1e3 / float(fps or 30) / targets) if options.redetect else None


def _say(tracker: Tracker, options: Options, more: str) -> None:
    engine = tracker.choice if options.verbose else tracker.choice.split(";")[0]
    told = ", ".join(filter(None, (tracker.bundle.name, tracker.precision, engine, more)))
    print(told, file=sys.stderr)
