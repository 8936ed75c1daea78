"""bench-jn: how fast and how accurate trackers are."""

from jntrt.bench.accuracy.command import add_accuracy
from jntrt.bench.projection.command import add_project
from jntrt.bench.report.commands import add_reports
from jntrt.bench.report.timing_commands import add_timings
from jntrt.bench.sequences.redetect_command import add_redetect
from jntrt.bench.submit_cli import add_submit
from jntrt.runtime.command.app import new_app, run
from jntrt.runtime.trtrun.doctor_cli import add_doctor

app = new_app("bench-jn", "How fast and how accurate trackers are: figures of bundles, beside others'.")
for add in (add_doctor, add_project, add_reports, add_submit, add_accuracy, add_redetect, add_timings):
    add(app)


def main() -> None:
    """Entry point of `bench-jn`."""
    raise SystemExit(run(app))
