"""Workers: the same results as one process, whoever follows, dies or refuses."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jntrt.bench.accuracy.baselines import baseline
from jntrt.bench.accuracy.contestants import bundle_contestant
from jntrt.bench.sequences.clips import load_clips
from jntrt.bench.sequences.evaluate import evaluate
from jntrt.bench.sequences.workers import on_ray
from jntrt.bench.sequences.workers.jobs import Job, Work, run_jobs
from jntrt.bench.sequences.workers.local import LocalCrew
from jntrt.bench.sequences.workers.on_ray import RayCrew
from jntrt.bench.sequences.workers.options import Workers
from jntrt.runtime.bundle import open_bundle
from jntrt.runtime.errors import UserError

from ..fake_ray import FakeRay
from ..tiny import write_got10k
from ..work import do, open_list, refuse_to_open

WORK = Work(open_list, do)


def jobs(*items: str) -> list[Job]:
    return [Job(f"{number}", number, item) for number, item in enumerate(items)]


def test_the_longest_goes_first_and_a_worker_opens_once() -> None:
    with LocalCrew(WORK, 1) as crew:
        done = list(run_jobs(crew, jobs("a", "b", "c")))
    assert [name for name, _ in done] == ["2", "1", "0"]
    assert [count for _, (_, count) in done] == [1, 2, 3]
    assert len({process for _, (process, _) in done}) == 1


def test_two_processes_share_the_jobs() -> None:
    with LocalCrew(WORK, 2) as crew:
        done = dict(run_jobs(crew, jobs(*"abcdefgh")))
    assert len(done) == 8
    assert len({process for process, _ in done.values()}) == 2


def test_a_process_that_dies_costs_its_job_s_time_alone(tmp_path: Path) -> None:
    with LocalCrew(WORK, 2) as crew:
        done = dict(run_jobs(crew, jobs("a", f"once-{tmp_path / 'died'}", "b")))
    assert set(done) == {"0", "1", "2"}
    assert (tmp_path / "died").exists()


def test_a_refused_job_is_an_error_after_all_others() -> None:
    with LocalCrew(WORK, 1) as crew:
        results = run_jobs(crew, jobs("a", "b", "refused"))
        assert [next(results)[0], next(results)[0]] == ["1", "0"]
        with pytest.raises(UserError, match=r"^1 of 3 sequences have no result.*; 2: damaged file$"):
            next(results)


def test_a_job_that_kills_its_workers_ends() -> None:
    with LocalCrew(WORK, 1) as crew, pytest.raises(UserError, match=r"lost 3 workers .*code 9"):
        list(run_jobs(crew, jobs("deadly")))


def test_a_worker_that_cannot_open_ends_it_at_once() -> None:
    with LocalCrew(Work(refuse_to_open, do), 1) as crew, pytest.raises(UserError, match=r"^no bundle here$"):
        list(run_jobs(crew, jobs("a", "b")))


def test_workers_end_with_a_killed_driver(tmp_path: Path) -> None:
    script = tmp_path / "driver.py"
    script.write_text(
        "import time\n"
        "from contextlib import nullcontext\n"
        "from jntrt.bench.sequences.workers.jobs import Work\n"
        "from jntrt.bench.sequences.workers.local import LocalCrew\n"
        "if __name__ == '__main__':\n"
        "    with LocalCrew(Work(nullcontext, print), 1) as crew:\n"
        "        print(*[process.pid for process in crew._processes.values()], flush=True)\n"
        "        time.sleep(60)\n"
    )
    driver = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True)
    assert driver.stdout is not None
    worker = int(driver.stdout.readline())
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    driver.stdout.close()
    deadline = time.monotonic() + 60
    while Path(f"/proc/{worker}/stat").exists() and _state(worker) != "Z":
        assert time.monotonic() < deadline, "the worker outlives its driver"
        time.sleep(0.05)


def _state(process: int) -> str:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return "Z"


def test_an_evaluation_is_the_same_and_reports_no_times(tmp_path: Path) -> None:
    clips = load_clips(write_got10k(tmp_path / "data", names=("A", "B", "C")))
    alone = evaluate(baseline("ncc"), clips, tmp_path / "alone")
    steps: list[int] = []
    team = Workers(jobs=2).team(None)
    shared = evaluate(baseline("ncc"), clips, tmp_path / "shared", steps.append, team)
    assert shared.measures == alone.measures
    assert sum(steps) == 3 * 8
    for clip in clips:
        place = Path("GOT-10k/ncc", clip.name, f"{clip.name}_001.txt")
        assert (tmp_path / "alone" / place).read_bytes() == (tmp_path / "shared" / place).read_bytes()
    assert np.isnan(shared.milliseconds)
    assert np.isnan(shared.fps)
    assert alone.milliseconds > 0
    # Nor when they are read again by a process that runs alone.
    assert np.isnan(evaluate(baseline("ncc"), clips, tmp_path / "shared").milliseconds)


def test_a_missing_sequence_is_an_error(tmp_path: Path) -> None:
    clips = load_clips(write_got10k(tmp_path / "data"))
    clips[1].images[4].write_bytes(b"no image")
    team = Workers(jobs=2).team(None)
    with pytest.raises(UserError, match=r"1 of 2 sequences have no result.*B: .*not an image"):
        evaluate(baseline("static"), clips, tmp_path / "out", team=team)
    assert (tmp_path / "out/GOT-10k/static/A/done.json").exists()


def test_another_bundle_at_the_same_path_is_refused() -> None:
    contestant = bundle_contestant(open_bundle("nanotrack-v3"), "onnxruntime", "fp32", 1)
    with contestant.open():
        pass
    function, (source, _, *rest) = contestant.open.func, contestant.open.args  # type: ignore[attr-defined]
    with pytest.raises(UserError, match="another track graph"):
        function(source, "0" * 64, *rest)


def test_flags() -> None:
    assert Workers().team(4) is None
    assert Workers(jobs=2).team(None).threads == 1  # type: ignore[union-attr]
    assert Workers(ray="host:6379").team(3).threads == 3  # type: ignore[union-attr]
    with pytest.raises(UserError, match="--jobs 0"):
        Workers(jobs=0)
    with pytest.raises(UserError, match="--worker-gpus: is for --ray"):
        Workers(jobs=2, worker_gpus=0.5)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Any:
    def started(*words: Any, **named: Any) -> FakeRay:
        ray = FakeRay(*words, **named)
        monkeypatch.setattr(on_ray, "import_module", lambda name: ray)
        return ray

    return started


def test_a_cluster_s_lost_worker_costs_its_job_s_time_alone(cluster: Any) -> None:
    ray = cluster({"CPU": 7.0}, lose=("1", "0"))
    with RayCrew(WORK, None, 0, cpus=2, gpus=0) as crew:
        done = dict(run_jobs(crew, jobs("a", "b", "c")))
    assert set(done) == {"0", "1", "2"}
    assert ray.given.count("1") == ray.given.count("0") == 2
    assert ray.given.count("2") == 1
    assert ray.address == "auto"
    assert len(ray.killed) == 3  # 7 CPUs hold three workers of two
    assert (ray.options["num_cpus"], ray.options["max_restarts"]) == (2, -1)


def test_a_cluster_takes_parts_of_gpus_and_no_more_workers_than_asked(cluster: Any) -> None:
    ray = cluster({"CPU": 64.0, "GPU": 2.0})
    with RayCrew(WORK, "host:6379", 0, cpus=1, gpus=0.25):
        pass
    assert len(ray.killed) == 8
    assert ray.options["num_gpus"] == 0.25
    with RayCrew(WORK, "host:6379", 3, cpus=1, gpus=0.25):
        pass
    assert len(ray.killed) == 8 + 3


def test_what_a_cluster_cannot_do_is_said(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster({"CPU": 1.0})
    with pytest.raises(UserError, match=r"no Ray cluster at nowhere:1 .*--jobs N"):
        RayCrew(WORK, "nowhere:1", 0, cpus=1, gpus=0)
    with pytest.raises(UserError, match="no room for a worker of 4 CPUs"):
        RayCrew(WORK, None, 0, cpus=4, gpus=0)
    with (
        RayCrew(Work(refuse_to_open, do), None, 0, cpus=1, gpus=0) as crew,
        pytest.raises(UserError, match=r"no bundle here \(on node "),
    ):
        list(run_jobs(crew, jobs("a")))
    with (
        RayCrew(WORK, None, 0, cpus=1, gpus=0) as crew,
        pytest.raises(UserError, match=r"damaged file \(on node "),
    ):
        list(run_jobs(crew, jobs("refused")))
    versions = iter([{"jntrt": "1", "numpy": "2.0"}, {"jntrt": "1", "numpy": "1.26"}])
    monkeypatch.setattr(on_ray, "_versions", lambda: next(versions))
    with (
        RayCrew(WORK, None, 0, cpus=1, gpus=0) as crew,
        pytest.raises(UserError, match=r"has numpy 1\.26, the driver 2\.0: install the same"),
    ):
        list(run_jobs(crew, jobs("a")))
