"""`aecodec models`."""

from __future__ import annotations

import json

import click

HELP = """List the installed models: name, identity, description.

\b
Example:
  aecodec models --json
"""


@click.command(help=HELP)
@click.option("--json", "as_json", is_flag=True, help="A JSON array of objects.")
def command(as_json: bool) -> None:
    """Read the headers of the installed weights and list them."""
    from aecodec.model.weights import available_models

    found = available_models()
    if as_json:
        keys = ("name", "id", "description")
        rows = [{key: str(getattr(one, key, "")) for key in keys} for one in found]
        rows = [{**row, "path": str(one.path)} for row, one in zip(rows, found, strict=True)]
        click.echo(json.dumps(rows, indent=2))
        return
    for one in found:
        click.echo(f"{one.name}  {one.id}  {getattr(one, 'description', '')}".rstrip())
