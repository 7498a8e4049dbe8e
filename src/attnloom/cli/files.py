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
from attnloom.cli.output import number, print_json, print_table, say
from attnloom.grammar import format_source
from attnloom.grammar.reading import text_of
from attnloom.library.about import family, is_causal, title
from attnloom.library.facts import Facts, facts


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
    """List the bundled patterns: what each costs, and how far apart it leaves tokens.

    The figures are those of the gallery, for published parameters where they can be had.

    Example: attnloom list
    """
    patterns = [attnloom.load(name) for name in attnloom.bundled()]
    if as_json:
        print_json({"ok": True, "diagnostics": [], "patterns": [_entry(p) for p in patterns]})
        return
    print_table(
        ("pattern", "family", "causal", "cost", "n", "reads", "hops", "what it is"),
        (_row(pattern, facts(pattern.name)) for pattern in patterns),
    )
    say("cost: pairs that a head reads; reads: share of all; hops: layers until every pair has met")


def _row(pattern: Pattern, found: Facts) -> tuple[str, ...]:
    return (
        pattern.name,
        family(pattern),
        "yes" if is_causal(pattern) else "",
        found.cost_words,
        number(found.n),
        found.reads_words,
        found.hops_words,
        title(pattern),
    )


def _entry(pattern: Pattern) -> dict[str, Any]:
    return {
        "name": pattern.name,
        "family": family(pattern),
        "causal": is_causal(pattern),
        "doc": pattern.doc,
        "parameters": {name: _shown(value) for name, value in pattern.params.items()},
        "inputs": dict(pattern.inputs),
        "contracts": pattern.contracts,
        "found": facts(pattern.name),
    }


def _shown(value: object) -> int | bool | str:
    return value if isinstance(value, int) else str(value)
