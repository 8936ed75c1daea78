"""Runs hostile inputs in a process of their own, and counts what must not happen."""

import json
import os
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

SECONDS = 20  # of processor: a loaded machine slows no input
WAITED = 300  # by the clock, for what hangs without computing
MEMORY_MB = 2048


@dataclass
class Outcome:
    """What became of a number of inputs; `bad` names what must not be; the worst processor seconds and MB."""

    counts: Counter[str] = field(default_factory=Counter)
    bad: list[str] = field(default_factory=list)
    seconds: float = 0.0
    peak: int = 0


def processor_seconds() -> float:
    """Of this process, its threads and the children that it has waited for."""
    return sum(os.times()[:4])


def attempts(names: Iterator[str], attempt: Callable[[str], None]) -> None:
    """In the child: one line of JSON for each input, before and after it."""
    from jntrt.runtime.errors import UserError

    for name in names:
        print(json.dumps({"begin": name}), flush=True)
        start, computed, end = time.monotonic(), processor_seconds(), "good"
        try:
            attempt(name)
        except UserError as error:
            end = "refused" if str(error).strip() and "\n" not in str(error) else f"not one line: {error!r}"
        except BaseException as error:  # a Rust panic is no Exception
            end = f"traceback: {type(error).__name__}: {error}"[:300]
        row = {
            "end": end,
            "seconds": processor_seconds() - computed,
            "waited": time.monotonic() - start,
            "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        }
        print(json.dumps(row), flush=True)


def fuzz(script: Path, *arguments: object) -> Outcome:
    """Runs `script` (which calls `attempts`) from input 0 on; after a crash, from the one behind it on."""
    outcome, position = Outcome(), 0
    while True:
        environment = os.environ | {"JNTRT_FUZZ_FROM": str(position)}
        command = [sys.executable, str(script), *map(str, arguments)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        name = ""
        for line in done.stdout.splitlines():
            if not line.startswith("{"):
                outcome.bad.append(f"{name}: printed {line!r:.100}")
                continue
            row = json.loads(line)
            if "begin" in row:
                name = row["begin"]
                position += 1
                continue
            kind = row["end"].partition(":")[0]
            outcome.counts[kind] += 1
            if kind not in ("good", "refused"):
                outcome.bad.append(f"{name}: {row['end']}")
            outcome.seconds = max(outcome.seconds, row["seconds"])
            outcome.peak = max(outcome.peak, row["peak"])
            if row["seconds"] > SECONDS or row["waited"] > WAITED:
                outcome.bad.append(f"{name}: {row['seconds']:.0f} s of processor, {row['waited']:.0f} s")
            if row["peak"] > MEMORY_MB:
                outcome.bad.append(f"{name}: {row['peak']} MB")
            name = ""
        if done.returncode == 0:
            return outcome
        outcome.counts["crash"] += 1
        outcome.bad.append(
            f"{name or 'outside of an input'}: ended with {done.returncode}: {done.stderr[-300:]}"
        )
        if not name:
            return outcome
