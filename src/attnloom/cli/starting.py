"""`new`: start a pattern file from a bundled pattern."""

from __future__ import annotations

import re
from pathlib import Path

import click

import attnloom
from attnloom import PatternError
from attnloom.cli.options import did_you_mean, json_option, read_source
from attnloom.cli.output import print_json, say
from attnloom.grammar import format_source, parse

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@click.command("new")
@click.argument("name", metavar="NAME")
@click.option(
    "--from",
    "base",
    metavar="PATTERN",
    default="longformer",
    show_default=True,
    help="The bundled pattern to start from; `attnloom list` shows them all.",
)
@json_option
def new_command(name: str, base: str, as_json: bool) -> None:
    """Start a pattern file: NAME.attn in this folder, a bundled pattern under a new name.

    A file that is there already is left alone.

    Example: attnloom new mine --from longformer
    """
    text = renamed(base, name)
    path = Path(f"{name}.attn")
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise click.UsageError(f"{path} is there already; choose another name") from None
    if as_json:
        print_json(
            {"ok": True, "diagnostics": [], "file": str(path), "pattern": name, "from": base}
        )
    else:
        say(f"wrote {path}; next: attnloom show {path} -n 64")


def renamed(base: str, name: str) -> str:
    """The text of a bundled pattern under a new name, with a line that says where it is from.

    Raises:
        click.UsageError: there is no such pattern, or the name cannot be a pattern's.
    """
    bundled = attnloom.bundled()
    if base not in bundled:
        raise click.UsageError(
            f"no bundled pattern is called {base!r}.{did_you_mean(base, bundled)}"
        )
    if not _NAME.fullmatch(name):
        raise click.UsageError(
            f"a pattern cannot be called {name!r}: a name has letters, digits and _, and does not "
            "begin with a digit; .attn is added"
        )
    if name in bundled:
        raise click.UsageError(f"{name!r} is the name of a bundled pattern; choose another one")
    source = read_source(base)
    span = parse(source.text, name=source.name).patterns[-1].name_span
    text = f"{source.text[: span.start]}{name}{source.text[span.stop :]}"
    try:
        attnloom.parse(text, name=f"{name}.attn")
    except PatternError as error:
        message = error.diagnostics[0].message
        raise click.UsageError(f"a pattern cannot be called {name!r}: {message}") from None
    # A name of another length may change where lines are broken.
    return format_source(f"# {name}, from the bundled {base}:\n#\n{text}", name=f"{name}.attn")
