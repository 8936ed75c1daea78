"""The report on the terminal, or as JSON for a bug report."""

import json as json_text
import platform
from dataclasses import asdict

from jntrt import __version__
from jntrt.runtime.trtrun.doctor.examine import ON_CPU, sections
from jntrt.runtime.trtrun.doctor.rows import Row, lines

_NEEDED = ("Libraries", "Packaged bundles")  # sections of which a broken row leaves nothing to track with


def report(*, json: bool) -> int:
    """Print what runs here and what does not, each row as it is found; `json`: as one object at the end.

    The exit code: 0 where something can track, else 2.
    """
    found: dict[str, list[Row]] = {}
    if not json:
        print(f"jntrt {__version__} on Python {platform.python_version()}")
    for title, rows in sections():
        found[title] = []
        if not json:
            print(f"\n{title}")
        for row in rows:
            found[title].append(row)
            if not json:
                print("\n".join(lines(row)), flush=True)
    engines = [row.name for row in found["Engines"] if row.state == "ok"]
    if json:
        told = [{"section": title, **asdict(row)} for title, rows in found.items() for row in rows]
        print(json_text.dumps({"jntrt": __version__, "tracks_with": engines, "rows": told}, indent=1))
    else:
        print("\n" + verdict(found))
    return 0 if engines else 2


def verdict(found: dict[str, list[Row]]) -> str:
    """The line at the end: what tracks here, or what to do first."""
    engines = [row.name for row in found["Engines"] if row.state == "ok"]
    if engines:
        return f"trtrun tracks here with {', '.join(engines)}"
    for section in _NEEDED:
        for row in found[section]:
            if row.state == "broken":
                return f"nothing tracks here: {row.name} is broken ({row.remedy or row.detail})"
    broken = next((row for row in found["Engines"] if row.state == "broken"), None)
    if broken:
        return f"nothing tracks here: {broken.name} is broken, see above"
    on_cpu = next((row for row in found["Engines"] if row.name == ON_CPU[0]), None)
    return f"nothing tracks here: no engine is installed ({on_cpu.remedy if on_cpu else 'see above'})"
