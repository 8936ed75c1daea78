"""What the five commands share: one-line errors and exit codes.

Exit codes: 0 done, 2 a user's mistake, 3 a gate refused, 130 after Ctrl-C or SIGTERM, 141 where the reader of
the output left. A user's mistake never prints a
traceback; an error that nobody foresaw does, so that it can be reported.
"""

import itertools
import logging
import os
import re
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from cyclopts import App, CycloptsError, MissingArgumentError, Parameter, UnusedCliTokensError

from jntrt.runtime.command.console import StderrHandler, one_line
from jntrt.runtime.command.interrupts import handling, interrupts
from jntrt.runtime.errors import UserError

# Which extras bring a module: the command's own where it is among them, else the first.
_EXTRAS_OF_MODULE = {
    "openvino": ("cpu",),
    "ncnn": ("train",),
    "torch": ("export", "train"),
    "onnx": ("export", "calib", "bench"),
    "onnxscript": ("export",),
    "onnxruntime": ("cpu", "export", "calib", "bench"),
    "safetensors": ("export", "train"),
    "yaml": ("export", "train"),
    "matplotlib": ("bench", "calib", "train"),
    "psutil": ("bench",),
    "vl_convert": ("bench",),
    "jsonschema": ("bench",),
    "ray": ("ray",),
    "tritonclient": ("triton",),
    "grpc": ("triton",),
}
_EXTRA_OF_COMMAND = {
    "export-jn": "export",
    "trtrun": "cpu",
    "bench-jn": "bench",
    "calib-jn": "calib",
    "train-jn": "train",
}


_MODELS = Path(__file__).parents[1] / "models"


def new_app(name: str, help: str | None = None) -> App:
    """A cyclopts application with `--version`; its help is `help` or the default command's."""
    return App(
        name=name,
        help=help,
        version=_version,
        help_format="markdown",
        default_parameter=Parameter(negative=()),  # no --no-json, no --empty-init beside every option
        suppress_keyboard_interrupt=False,  # run says that it was interrupted
    )


def _version() -> str:
    try:
        return version("jntrt")
    except PackageNotFoundError:
        return "unknown (jntrt is not installed, only imported)"


def run(app: App, argv: Sequence[str] | None = None) -> int:
    """Parse `argv` (default: the process's) and call the command; its exit code. User errors are one line."""
    # cyclopts takes a lone hyphen for an option.
    tokens = ["/dev/stdin" if token == "-" else token for token in (sys.argv[1:] if argv is None else argv)]
    name = app.name[0]
    for stream in ("stdout", "stderr"):
        if getattr(sys, stream) is None:  # closed by the caller (`>&-`)
            setattr(sys, stream, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    logging.basicConfig(level=logging.WARNING, format=f"{name}: %(message)s", handlers=[StderrHandler()])
    try:
        with handling(interrupts):
            _check_first_word(app, tokens)
            result = app(tokens, exit_on_error=False, print_error=False, result_action="return_value")
            sys.stdout.flush()
    except CycloptsError as error:
        hint = _negative_number_hint(tokens)
        if isinstance(error, MissingArgumentError):
            hint = hint or _taken_words_hint(tokens)
        return _fail(name, f"{_not_given(error, name) or _too_many(error, name) or one_line(error)}{hint}", 2)
    except UserError as error:
        return _fail(name, one_line(error), error.exit_code)
    except KeyboardInterrupt:
        # One that came within an exec of a text (a dataclass in the making) makes Python kill itself at its
        # end, in place of exit code 130, unless another text was run since.
        exec("")
        return _fail(name, "interrupted", 130)
    except BrokenPipeError:
        return _reader_left()
    except SystemExit as error:
        if isinstance(error.__context__, BrokenPipeError):  # what rich's console makes of one
            return _reader_left()
        raise
    except ImportError as error:
        if isinstance(error.__cause__, KeyboardInterrupt):  # what an extension module makes of one
            return _fail(name, "interrupted", 130)
        remedy = missing_extra(error, name)
        if remedy is None:
            raise
        return _fail(name, remedy, 2)
    except RuntimeError:
        if interrupts.requested:  # what torch makes of its workers' ends, where they were told to end too
            return _fail(name, "interrupted", 130)
        raise
    except OSError as error:
        if error.strerror is None:  # raised by a library and not by the system
            raise
        # What no check foresaw: a full disk, a folder that may not be read, a name that is too long.
        place = f"{str(error.filename)[:200]}: " if error.filename else ""
        return _fail(name, f"{place}{error.strerror}", 2)
    return result if isinstance(result, int) else 0


def missing_extra(error: ImportError, command: str = "trtrun") -> str | None:
    """The one line for a module that an extra would have brought; None where no extra explains the error."""
    text = str(error)
    if "libGL" in text or "libgthread" in text:
        return (
            "OpenCV cannot load libGL, which this machine lacks: install opencv-python-headless in place of "
            "opencv-python, or the system package libgl1"
        )
    module = (error.name or "").split(".")[0]
    extras = _EXTRAS_OF_MODULE.get(module)
    if extras is None:
        return None
    own = _EXTRA_OF_COMMAND.get(command)
    extra = own if own in extras else extras[0]
    return f'{module} is not installed: pip install "jntrt[{extra}]"'


def _check_first_word(app: App, tokens: list[str]) -> None:
    subcommands = [word for word in app if not word.startswith("-")]
    if not subcommands or not tokens or tokens[0].startswith("-") or tokens[0] in subcommands:
        return
    listing = ", ".join(sorted(subcommands))
    if app.default_command is None:
        raise UserError(f"{tokens[0]}: no such sub-command; there are: {listing}")
    # A camera's number, a glob or an address is for the default command to judge.
    if re.fullmatch(r"[A-Za-z][\w.-]*", tokens[0]) and not Path(tokens[0]).exists():
        if (_MODELS / tokens[0]).is_dir():  # a packaged bundle goes by its name
            return
        raise UserError(f"{tokens[0]}: no such file, and no sub-command (there are: {listing})")


def _negative_number_hint(tokens: list[str]) -> str:
    for flag, value in itertools.pairwise(tokens):
        if flag.startswith("--") and "=" not in flag and re.match(r"-[\d.]", value):
            return f" (a value that begins with a minus sign is written {flag}={value})"
    return ""


def _not_given(error: CycloptsError, command: str) -> str | None:
    """For a word that was left out whole: cyclopts speaks of it as of an option without its value."""
    if type(error) is not MissingArgumentError or error.keyword or error.tokens_so_far or not error.argument:
        return None
    words = " ".join((command, *(error.command_chain or ())))
    name = error.argument.name
    name = name if error.argument.index is None else name.lstrip("-").upper()  # as the help writes it
    return f"{name} is missing; {words} --help says what it is"


def _too_many(error: CycloptsError, command: str) -> str | None:
    """For words that nothing takes: cyclopts calls them tokens."""
    if not isinstance(error, UnusedCliTokensError) or not error.unused_tokens:
        return None
    words = " ".join((command, *(error.command_chain or ())))
    rest = one_line(" ".join(error.unused_tokens))[:200]
    return f"nothing takes {rest}; {words} --help says what it takes"


def _taken_words_hint(tokens: list[str]) -> str:
    """For a word that went to the option before it, which takes a list."""
    for flag, first, second in zip(tokens, tokens[1:], tokens[2:], strict=False):
        if flag.startswith("--") and not first.startswith("-") and not second.startswith("-"):
            return f" ({flag} takes every word behind it: write {second} before {flag})"
    return ""


def _reader_left() -> int:
    """The reader of our output (head, less) has gone. Python would complain again when it flushes at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 141


def _fail(name: str, message: str, code: int) -> int:
    print(f"{name}: {message}", file=sys.stderr)
    return code
