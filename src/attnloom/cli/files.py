"""`fmt` and `list`: commands about pattern files as such."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

import attnloom
from attnloom import Pattern
from attnloom.cli.options import existing_file, files_argument, json_option, read_stdin
from attnloom.cli.output import print_json, print_table, say
from attnloom.grammar import format_source
from attnloom.grammar.reading import text_of


@click.command("fmt")
@files_argument
@click.option("--check", is_flag=True, help="Write nothing; exit 1 if a file is not formatted.")
@json_option
@click.pass_context
def fmt_command(ctx: click.Context, files: Sequence[str], check: bool, as_json: bool) -> None:
    """Format pattern files in place.

    With - standard input is formatted to standard output.

    Example: attnloom fmt --check patterns/*.attn
    """
    changed: list[str] = []
    for file in files:
        name = "<stdin>" if file == "-" else file
        path = None if file == "-" else existing_file(file)
        text = read_stdin() if path is None else text_of(path)
        formatted = format_source(text, name=name)
        if formatted != text:
            changed.append(name)
            if path is not None and not check:
                _replace(path, formatted)
        if path is None and not check and not as_json:
            sys.stdout.write(formatted)
    passed = not (check and changed)
    if as_json:
        print_json({"ok": passed, "diagnostics": [], "changed": changed})
    else:
        for name in changed:
            say(f"{'would format' if check else 'formatted'} {name}")
    ctx.exit(0 if passed else 1)


def _replace(path: Path, text: str) -> None:
    """Write a file whole or not at all, with the rights that it had."""
    target = path.resolve()
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    scratch = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
        shutil.copymode(target, scratch)
        scratch.replace(target)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


@click.command("list")
@json_option
def list_command(as_json: bool) -> None:
    """List the bundled patterns.

    Example: attnloom list
    """
    patterns = [attnloom.load(name) for name in attnloom.bundled()]
    if as_json:
        print_json({"ok": True, "diagnostics": [], "patterns": [_entry(p) for p in patterns]})
        return
    print_table(
        ("pattern", "family", "causal", "parameters", "what it is"),
        ((p.name, family(p), _yes(is_causal(p)), _parameters(p), title(p)) for p in patterns),
    )


def title(pattern: Pattern) -> str:
    """The first line of a pattern's comment: what it is, by whom, and where it is published."""
    return pattern.doc.strip().split("\n")[0]


def family(pattern: Pattern) -> str:
    """What a pattern's comment says after `Family:`, or nothing.

    >>> import attnloom
    >>> family(attnloom.load("mistral"))
    'windows'
    """
    said = (line.removeprefix("Family:") for line in pattern.doc.split("\n") if "Family:" in line)
    return next(said, "").strip()


def is_causal(pattern: Pattern) -> bool:
    """Whether the pattern promises that it is causal.

    >>> import attnloom
    >>> is_causal(attnloom.load("mistral")), is_causal(attnloom.load("longformer"))
    (True, False)
    """
    return "causal" in pattern.contracts


def _yes(answer: bool) -> str:
    return "yes" if answer else ""


def _entry(pattern: Pattern) -> dict[str, Any]:
    return {
        "name": pattern.name,
        "family": family(pattern),
        "causal": is_causal(pattern),
        "doc": pattern.doc,
        "parameters": {name: _shown(value) for name, value in pattern.params.items()},
        "inputs": dict(pattern.inputs),
        "contracts": pattern.contracts,
    }


def _parameters(pattern: Pattern) -> str:
    given = [f"{name}={_spelt(value)}" for name, value in pattern.params.items()]
    return ", ".join(given + [f"input {name}" for name in pattern.inputs])


def _spelt(value: object) -> str:
    """A value as a pattern file says it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _shown(value: object) -> int | bool | str:
    return value if isinstance(value, int) else str(value)
