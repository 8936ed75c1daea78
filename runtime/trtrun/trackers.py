"""What follows the targets: engines of this process, one engine for all sources, or a server."""

import sys
from collections.abc import Callable
from contextlib import ExitStack

from jntrt.runtime.bundle import Bundle
from jntrt.runtime.engines.options import EngineOptions
from jntrt.runtime.engines.tensorrt.build_ahead import build_bar
from jntrt.runtime.errors import UserError
from jntrt.runtime.serving.client import ServerTracker
from jntrt.runtime.shared import SharedEngine
from jntrt.runtime.tracker import Tracker
from jntrt.runtime.trtrun.options import Options
from jntrt.runtime.trtrun.run import OneEach

Opened = Tracker | OneEach | ServerTracker
# Opens what follows so many targets of one source; the stack closes it.
Opener = Callable[[ExitStack, int], Opened]


def opener(model: Bundle, options: Options) -> Opener:
    """For sources one after another: each opens an engine, and says on stderr which."""
    if options.server:
        return _server(options)
    return lambda stack, targets: _own(stack, model, options, targets)


def shared_opener(stack: ExitStack, model: Bundle, options: Options, threads: int) -> Opener:
    """For sources at once: one engine of so many threads for all of them, which `stack` closes."""
    if options.server:
        return _server(options)
    with build_bar() as bar:
        given = EngineOptions(threads=options.threads or threads, build=options.build, progress=bar)
        engine = stack.enter_context(SharedEngine(model, options.backend, options.precision, given))
    _say(model, options, engine.choice, "for all sources")

    def open_trackers(of_source: ExitStack, targets: int) -> Opened:
        trackers = [of_source.enter_context(engine.tracker()) for _ in range(targets // model.batch)]
        return trackers[0] if len(trackers) == 1 else OneEach(trackers)

    return open_trackers


def _server(options: Options) -> Opener:
    url = options.server
    assert url is not None
    return lambda stack, targets: stack.enter_context(ServerTracker(url, options.send))


def _own(stack: ExitStack, model: Bundle, options: Options, targets: int) -> Tracker | OneEach:
    with build_bar() as bar:
        given = EngineOptions(threads=options.threads, build=options.build, progress=bar)
        trackers = [
            stack.enter_context(Tracker.from_bundle(model, options.backend, options.precision, options=given))
            for _ in range(targets // model.batch)
        ]
    if options.decode == "gpu" and not trackers[0].on_device:
        raise UserError(f"--decode gpu: {trackers[0].choice} runs on the CPU: leave --decode gpu out")
    each = f"{len(trackers)} trackers, one for each target" if len(trackers) > 1 else ""
    _say(model, options, trackers[0].choice, each)
    return trackers[0] if len(trackers) == 1 else OneEach(trackers)


def _say(model: Bundle, options: Options, choice: str, more: str) -> None:
    engine = choice if options.verbose else choice.split(";")[0]
    told = ", ".join(filter(None, (model.name, options.precision, engine, more)))
    print(told, file=sys.stderr)
