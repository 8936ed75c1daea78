"""What the commands share: exit codes, one line per mistake, comma lists."""

import signal
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import pytest
from cyclopts import App, Parameter
from hypothesis import given
from hypothesis import strategies as st

from jntrt.runtime.command.app import missing_extra, new_app, run
from jntrt.runtime.command.interrupts import Interrupts
from jntrt.runtime.command.lists import parse_box, parse_integers, parse_numbers
from jntrt.runtime.errors import GateError, UserError


@pytest.fixture
def app() -> App:
    app = new_app("export-jn", "Export things.")

    @app.default
    def export(file: Path, *, ratio: str = "", what: str = "") -> int | None:
        """Export FILE."""
        match what:
            case "user":
                raise UserError("one\n  line")
            case "gate":
                raise GateError("too far off")
            case "interrupt":
                raise KeyboardInterrupt
            case "full":
                raise OSError(28, "No space left on device", "boxes.txt")
            case "torch":
                raise ModuleNotFoundError("No module named 'torch'", name="torch")
            case "workers":
                raise RuntimeError("DataLoader worker (pid 7) exited unexpectedly")
            case "code":
                return 7
        return None

    @app.command
    def inspect(bundle: Path) -> None:
        """Say what BUNDLE is."""

    return app


@pytest.mark.parametrize(
    ("what", "code", "line"),
    [
        ("", 0, ""),
        ("user", 2, "export-jn: one line\n"),
        ("gate", 3, "export-jn: too far off\n"),
        ("full", 2, "export-jn: boxes.txt: No space left on device\n"),
        ("interrupt", 130, "export-jn: interrupted\n"),
        ("torch", 2, 'export-jn: torch is not installed: pip install "jntrt[export]"\n'),
        ("code", 7, ""),
    ],
)
def test_exit_codes(
    app: App, tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str, code: int, line: str
) -> None:
    assert run(app, [str(tmp_path), "--what", what]) == code
    assert capsys.readouterr() == ("", line)


def test_workers_that_were_told_to_end_too_are_no_error(
    app: App, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = Interrupts()
    monkeypatch.setattr("jntrt.runtime.command.app.interrupts", mine)
    with pytest.raises(RuntimeError, match="unexpectedly"):
        run(app, [str(tmp_path), "--what", "workers"])
    with pytest.raises(KeyboardInterrupt):
        mine.handle(signal.SIGTERM, None)
    assert run(app, [str(tmp_path), "--what", "workers"]) == 130
    assert capsys.readouterr().err == "export-jn: interrupted\n"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["insepct"], "no such file, and no sub-command (there are: inspect)"),
        (["inspect"], "BUNDLE is missing; export-jn inspect --help says what it is"),
        ([".", "--ratio"], "--ratio requires an argument"),
        ([".", "--colour", "red"], "Unknown option"),
        ([".", "--ratio", "-5,1"], "--ratio=-5,1"),
        ([], "FILE is missing; export-jn --help says what it is"),
        ([".", "a", "b\n"], "nothing takes a b; export-jn --help says what it takes"),
        (["inspect", ".", "a"], "nothing takes a; export-jn inspect --help says what it takes"),
    ],
)
def test_wrong_words_are_one_line(
    app: App, capsys: pytest.CaptureFixture[str], words: list[str], expected: str
) -> None:
    assert run(app, words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert expected in err


def test_a_command_without_default_lists_its_subcommands(capsys: pytest.CaptureFixture[str]) -> None:
    app = new_app("bench-jn", "Measure.")

    @app.command
    def latency(bundle: Path) -> None:
        """Time BUNDLE."""

    assert run(app, ["latancy"]) == 2
    assert "there are: latency" in capsys.readouterr().err


def test_version_and_help(app: App, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(app, ["--version"]) == 0
    assert capsys.readouterr().out.strip()[0].isdigit()
    assert run(app, ["--help"]) == 0
    assert "Say what BUNDLE is." in capsys.readouterr().out


def test_an_unforeseen_error_keeps_its_traceback() -> None:
    app = new_app("trtrun", "Track.")

    @app.default
    def broken() -> None:
        raise ModuleNotFoundError("No module named 'jntrt.nonsense'", name="jntrt.nonsense")

    with pytest.raises(ModuleNotFoundError):
        run(app, [])


def test_a_reader_that_leaves_early_is_no_error() -> None:
    code = (
        "import sys\n"
        "from jntrt.runtime.command.app import new_app, run\n"
        "app = new_app('trtrun', 'Track.')\n"
        "@app.default\n"
        "def many() -> None:\n"
        "    for _ in range(100000): print('a line', flush=True)\n"
        "sys.exit(run(app))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(20) == 141


@pytest.mark.parametrize(("closed", "out", "err"), [(1, b"", b"warned\n"), (2, b"a line\n", b"")])
def test_a_closed_stream_is_no_error(closed: int, out: bytes, err: bytes) -> None:
    """A shell's `>&-`: Python then has no sys.stdout at all."""
    code = (
        "import sys\n"
        "from jntrt.runtime.command.app import new_app, run\n"
        "app = new_app('trtrun', 'Track.')\n"
        "@app.default\n"
        "def track() -> None:\n"
        "    print('a line')\n"
        "    print('warned', file=sys.stderr)\n"
        "    sys.stderr.isatty()\n"
        "sys.exit(run(app))\n"
    )
    line = ["sh", "-c", f'exec "$@" {closed}>&-', "sh", sys.executable, "-c", code]
    done = subprocess.run(line, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, out, err)


def test_missing_modules_name_their_extra() -> None:
    def remedy(module: str, command: str) -> str | None:
        return missing_extra(ModuleNotFoundError(f"No module named '{module}'", name=module), command)

    assert 'pip install "jntrt[cpu]"' in str(remedy("openvino", "bench-jn"))
    assert 'pip install "jntrt[cpu]"' in str(remedy("onnxruntime", "trtrun"))
    assert 'pip install "jntrt[train]"' in str(remedy("torch", "train-jn"))
    assert 'pip install "jntrt[calib]"' in str(remedy("onnx.helper", "calib-jn"))
    assert 'pip install "jntrt[export]"' in str(remedy("torch", "bench-jn"))
    assert 'pip install "jntrt[bench]"' in str(remedy("psutil", "bench-jn"))
    assert remedy("left_pad", "trtrun") is None
    libgl = ImportError("libGL.so.1: cannot open shared object file: No such file or directory")
    assert "opencv-python-headless" in str(missing_extra(libgl))


def test_comma_lists() -> None:
    assert parse_numbers("0.7,.8, 1", "--keep-ratio") == (0.7, 0.8, 1.0)
    assert parse_integers("3,6,9", "--ce-layers") == (3, 6, 9)
    assert parse_box("-5,1.5,10,20", "--init") == (-5, 1.5, 10, 20)
    for call, words in [
        (lambda: parse_numbers("1,b", "--x"), "--x 1,b: not numbers separated by commas"),
        (lambda: parse_numbers("1,2,3", "--init", 4), "3 given, needs 4 numbers"),
        (lambda: parse_numbers("1,nan", "--x"), "finite"),
        (lambda: parse_integers("1.5", "--x"), "whole numbers"),
        (lambda: parse_box("1,2,0,4", "--init"), "above 0"),
    ]:
        with pytest.raises(UserError) as caught:
            call()
        assert words in str(caught.value)


@given(st.text(max_size=40))
def test_any_text_is_numbers_or_one_line(text: str) -> None:
    try:
        values = parse_numbers(text, "--init", 4)
    except UserError:
        return
    assert len(values) == 4


def test_a_word_that_went_to_a_list_is_led_back(capsys: pytest.CaptureFixture[str]) -> None:
    app = new_app("calib-jn")

    @app.default
    def calibrate(
        bundle: str, *, data: Annotated[tuple[str, ...], Parameter(consume_multiple=True)], bits: int = 8
    ) -> None:
        """Calibrate BUNDLE."""

    assert run(app, ["mine", "--data", "a", "b"]) == 0
    assert run(app, ["--data", "a", "mine", "--bits", "7"]) == 2
    told = capsys.readouterr().err
    assert told.endswith(" (--data takes every word behind it: write mine before --data)\n")
    assert told.count("\n") == 1
    assert run(app, ["--data", "a", "--bits", "7"]) == 2
    assert "takes every word" not in capsys.readouterr().err
