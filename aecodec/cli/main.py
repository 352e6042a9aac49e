"""The `aecodec` command: finds a subcommand by name, and turns errors into one line and a code."""

from __future__ import annotations

import errno
import importlib
import io
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import NoReturn

import click

from aecodec._version import __version__
from aecodec.errors import AecError, FormatError, InputError, ModelError, OutputError, one_line

#: Name -> what the list of commands says. The module `aecodec.cli.<name>` holds the command.
COMMANDS = {
    "compress": "Code an image file as an .aec file.",
    "decompress": "Decode an .aec file to an image file.",
    "info": "Show what an .aec file says about itself.",
    "verify": "Check that .aec files are whole and decode exactly.",
    "models": "List the installed models.",
    "compare": "Show images beside other codecs at the same size, in an HTML page.",
    "completion": "Print the script that completes aecodec's arguments in a shell.",
    "bench": "Measure rate, distortion and speed beside other codecs.",
    "train": "Train a model.",
    "narrow": "Make weights narrower, to train a faster model.",
    "export": "Turn a training run into a weights file.",
    "tune": "Search for the best values of a training config.",
    "evaluate": "Measure a model, or two side by side, on a folder of images.",
    "explore": "Look into a model: latents, layers, training curves.",
}

EXIT_OTHER, EXIT_USAGE, EXIT_INPUT, EXIT_FORMAT, EXIT_MODEL, EXIT_OUTPUT = 1, 2, 3, 4, 5, 6
EXIT_PARTLY, EXIT_SOME = 7, 8
EXIT_INTERRUPTED = 130

NOTES = "notes"  # the log handler that shows them

#: What writing to standard output may end in.
_OF_OUTPUT = (errno.EBADF, errno.ENOSPC, errno.EIO)

#: Commands that leave nothing to tidy up: taking torch down again takes 0.4 s.
_LEAVE_AT_ONCE = (["compress"], ["decompress"], ["verify"])

HELP = """A learned image codec.

\b
Examples:
  aecodec compress photo.png                   writes photo.aec
  aecodec compress photo.png small.aec -q 30
  aecodec compress photos --recursive --out coded --jobs 4
  aecodec decompress small.aec out.png
  aecodec info --json small.aec
"""

EPILOG = """\b
Exit codes:
  0    done
  1    another error
  2    wrong usage: an unknown option, a missing argument
  3    the input cannot be read or coded, or is over the limits
  4    not an .aec file, or a damaged one
  5    a model is missing, damaged or another one
  6    the output cannot be written, or exists already
  7    parts of a damaged file were recovered, others are lost
  8    some files of a batch failed, each is named; the others are done
  130  interrupted
"""


class LazyGroup(click.Group):
    """A group that imports a command's module when the command is used, not to list it."""

    known = COMMANDS
    prefix = "aecodec.cli."

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.known)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.known:
            return None
        module = importlib.import_module(f"{self.prefix}{cmd_name}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(self.known.items()))


@click.group(
    cls=LazyGroup,
    help=HELP,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, "--version", prog_name="aecodec")
def cli() -> None:
    """The group's own options are --help and --version."""


def exit_code(error: AecError) -> int:
    """The exit code for an error; see `EPILOG`."""
    for kind, code in (
        (InputError, EXIT_INPUT),
        (FormatError, EXIT_FORMAT),
        (ModelError, EXIT_MODEL),
        (OutputError, EXIT_OUTPUT),
    ):
        if isinstance(error, kind):
            return code
    return EXIT_OTHER


def note(text: str) -> str:
    """How a note looks."""
    return f"aecodec: note: {text}"


def report(error: Exception) -> None:
    """Write an error as one line to stderr."""
    click.echo(f"aecodec: error: {one_line(error)}", err=True)


def error_fields(error: Exception | None) -> dict[str, str | None]:
    """What JSON says of a file's error: `error` and `error_type`, null if there is none."""
    if error is None:
        return {"error": None, "error_type": None}
    return {"error": str(error), "error_type": type(error).__name__}


def run(argv: Sequence[str] | None = None) -> int:
    """Run a command line, without leaving the process; gives the exit code."""
    notes = logging.StreamHandler()
    notes.set_name(NOTES)
    notes.setFormatter(logging.Formatter(note("%(message)s")))
    logger = logging.getLogger("aecodec")
    logger.addHandler(notes)
    logger.setLevel(logging.INFO)
    warnings.filterwarnings("ignore", module="PIL")  # of metadata that matter to nobody here
    for name in ("PIL", "imagecodecs", "tifffile"):
        logging.getLogger(name).addHandler(logging.NullHandler())  # else they go to stderr
    try:
        result = cli.main(
            args=None if argv is None else list(argv), prog_name="aecodec", standalone_mode=False
        )
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("aecodec: interrupted", err=True)
        return EXIT_INTERRUPTED
    except AecError as error:
        report(error)
        return exit_code(error)
    except BrokenPipeError:  # the reader of our output has gone, as `head` does
        _drop_output()
        return EXIT_OTHER
    except MemoryError:
        report(AecError("not enough memory"))
        return EXIT_OTHER
    except OSError as error:  # of files they are AecErrors
        where = "" if error.filename is None else f"{error.filename}: "
        if not where and error.errno in _OF_OUTPUT:
            where = "standard output: "
            _drop_output()
        report(AecError(f"{where}{error.strerror or error}"))
        return EXIT_OUTPUT if error.errno in _OF_OUTPUT else EXIT_OTHER
    finally:
        logger.removeHandler(notes)


def _drop_output() -> None:
    """Let go of output that cannot be written: at its end Python would try again, and fail."""
    with suppress(OSError):  # of a stream that is no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _replace_closed_streams() -> None:
    """Give what was started without a standard stream one that is empty, or cannot be written."""
    if sys.stdin is None:
        sys.stdin = open(os.devnull)  # noqa: SIM115
    if sys.stdout is None:
        sys.stdout = open(os.open(os.devnull, os.O_RDONLY), "w")  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115


@contextmanager
def _interrupted_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP tidy up, as Ctrl-C does, unless somebody has other plans for them."""
    names = ("SIGTERM", "SIGHUP")  # Windows has only the first
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    changed = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]
    if threading.current_thread() is not threading.main_thread():
        changed = []  # only the main thread may
    for number in changed:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number in changed:
            signal.signal(number, signal.SIG_DFL)


def _print_any_name() -> None:
    """Names of files are bytes: print also those that are no text."""
    out = sys.stdout
    if isinstance(out, io.TextIOWrapper) and out.errors == "strict":
        unicode = out.encoding.lower().replace("-", "") == "utf8"
        out.reconfigure(errors="surrogateescape" if unicode else "backslashreplace")


def main() -> NoReturn:
    """What the `aecodec` script does."""
    _replace_closed_streams()
    _print_any_name()
    with _interrupted_by_signals():
        code = run()
    if sys.argv[1:2] in _LEAVE_AT_ONCE:
        logging.shutdown()
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError, AttributeError):  # closed, or none at all
                stream.flush()
        os._exit(code)
    sys.exit(code)
