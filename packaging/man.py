"""Write the manual page aecodec(1) to standard output, from what `--help` says."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from aecodec import __version__
from aecodec.cli.main import COMMANDS, EPILOG, HELP, cli


def escape(text: str) -> str:
    """Text that roff takes as it is."""
    return "\n".join(
        f"\\&{line}" if line.startswith((".", "'")) else line
        for line in text.replace("\\", "\\e").replace("-", "\\-").splitlines()
    )


def paragraphs(text: str) -> Iterator[str]:
    r"""Help text; what stands below a `\b` keeps its lines."""
    for part in text.strip().split("\n\n"):
        head, marked, kept = part.partition("\b\n")
        if head.strip():
            yield f".PP\n{escape(head.strip())}"
        if marked:  # examples, exit codes: below a title
            title, _, lines = kept.partition("\n")
            yield f".PP\n{escape(title)}\n.RS 2\n.nf\n{escape(lines)}\n.fi\n.RE"


def command(name: str) -> Iterator[str]:
    """A command: how it is called, what it does, its options."""
    found = cli.get_command(click.Context(cli), name)
    assert found is not None
    parent = click.Context(cli, info_name="aecodec", **cli.context_settings)
    context = click.Context(found, info_name=name, parent=parent)
    usage = " ".join(found.collect_usage_pieces(context))
    yield f".SS {escape(name)}"
    yield f"\\fBaecodec {escape(name)}\\fR {escape(usage)}"
    yield from paragraphs(found.help or "")
    for parameter in found.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None and isinstance(parameter, click.Option):
            yield f".TP\n\\fB{escape(record[0])}\\fR\n{escape(record[1])}"


def page() -> Iterator[str]:
    """The lines of the page."""
    summary, _, examples = HELP.partition("\n\n")
    yield f'.TH AECODEC 1 "" "aecodec {__version__}"'
    yield f".SH NAME\naecodec \\- {escape(summary[0].lower() + summary[1:].rstrip('.'))}"
    yield ".SH SYNOPSIS\n\\fBaecodec\\fR \\fICOMMAND\\fR [\\fIOPTIONS\\fR] [\\fIARGUMENTS\\fR]"
    yield ".SH DESCRIPTION"
    yield from list(paragraphs(examples))
    yield ".SH COMMANDS"
    for name in COMMANDS:
        yield from command(name)
    yield ".SH EXIT STATUS"
    yield from (part.replace("Exit codes:\n", "") for part in paragraphs(EPILOG))


if __name__ == "__main__":
    sys.stdout.write("\n".join(page()) + "\n")
