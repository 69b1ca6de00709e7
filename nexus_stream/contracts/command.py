"""``nexus contracts write|check DIR``: the published schemas, AsyncAPI and OpenAPI documents, as files.

To: ``contracts/``, which is checked in, so that other services do not need Python.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from nexus_stream.contracts.asyncapi import ASYNCAPI, asyncapi_text
from nexus_stream.contracts.openapi import OPENAPI, openapi_text
from nexus_stream.contracts.schemas import schema_files

__all__ = ["command", "differences", "published_files"]

_DIRECTORY = click.argument("directory", type=click.Path(file_okay=False, path_type=Path))


def published_files() -> dict[str, str]:
    """File name -> text of every file in ``contracts/``."""
    return {**schema_files(), ASYNCAPI: asyncapi_text(), OPENAPI: openapi_text()}


def differences(directory: Path) -> list[str]:
    """The files that differ from the generated ones, one line per file; empty if none differs."""
    expected = published_files()
    found = {path.name for path in directory.iterdir()} if directory.is_dir() else set()
    lines = [f"{name}: missing" for name in expected if name not in found]
    lines += [f"{name}: not generated from any record" for name in sorted(found - expected.keys())]
    lines += [
        f"{name}: differs from the records"
        for name, text in expected.items()
        if name in found and (directory / name).read_text(encoding="utf-8") != text
    ]
    return lines


@click.group(name="contracts")
def command() -> None:
    """Write or check the published schemas."""


@command.command()
@_DIRECTORY
def write(directory: Path) -> None:
    """Write all files to DIRECTORY."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in published_files().items():
        (directory / name).write_text(text, encoding="utf-8")
        click.echo(directory / name)


@command.command()
@_DIRECTORY
def check(directory: Path) -> None:
    """Exit 1 and name the files if DIRECTORY differs from the records."""
    lines = differences(directory)
    for line in lines:
        click.echo(line, err=True)
    if lines:
        click.echo(
            f"Run `nexus contracts write {directory}` and review the change: subscribers use these files.", err=True
        )
        sys.exit(1)
    click.echo(f"{directory} matches the records")
