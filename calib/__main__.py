"""Entry point of calib-jn: it imports nothing else, so that Ctrl-C is quiet while the rest is imported."""

import sys

from jntrt.runtime.command.start import start


def main() -> int:
    """Run the command; its exit code."""
    return start("jntrt.calib.cli")


if __name__ == "__main__":
    sys.exit(main())
