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
        rows = [
            {"name": one.name, "id": one.id, "description": one.description, "path": str(one.path)}
            for one in found
        ]
        click.echo(json.dumps(rows, indent=2))
        return
    for one in found:
        click.echo(f"{one.name}  {one.id}  {one.description}".rstrip())
