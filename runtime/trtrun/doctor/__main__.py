"""`python -m jntrt.runtime.trtrun.doctor [--json]`: the same report where `trtrun` itself does not start."""

import sys

from jntrt.runtime.trtrun.doctor.report import report

if __name__ == "__main__":
    if unknown := set(sys.argv[1:]) - {"--json"}:
        sys.exit(f"{unknown.pop()}: the one option is --json")
    sys.exit(report(json="--json" in sys.argv))
