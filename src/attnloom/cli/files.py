"""`check`, `fmt` and `list`: commands about pattern files as such."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import click

import attnloom
from attnloom import Pattern, PatternError
from attnloom.cli.options import (
    existing_file,
    files_argument,
    input_option,
    json_option,
    layer_options,
    load_pattern,
    place,
    read_inputs,
    read_text,
    set_option,
)
from attnloom.cli.output import print_diagnostics, print_json, print_table, print_text, say
from attnloom.grammar import format_source

DEFAULT_LENGTHS = (16, 1000, 4096)


@click.command("check")
@files_argument
@click.option(
    "-n",
    "--length",
    "lengths",
    type=click.IntRange(min=1),
    multiple=True,
    help="A length to check at, repeatable.  [default: any of 16, 1000 and 4096 that fits]",
)
@set_option
@input_option
@layer_options
@json_option
@click.pass_context
def check_command(
    ctx: click.Context,
    files: Sequence[str],
    lengths: Sequence[int],
    settings: Sequence[str],
    inputs: Sequence[str],
    layer: int,
    layers: int | None,
    as_json: bool,
) -> None:
    """Check pattern files: syntax, names, types, lengths.

    Contracts (`expect ...`) are listed, not evaluated.

    Example: attnloom check patterns/*.attn -n 512
    """
    where = place(0, None, layer, layers).bound
    reports = []
    for file in files:
        try:
            report = _checked(load_pattern(file, settings), lengths, inputs, where)
        except PatternError as error:
            report = {"ok": False, "diagnostics": error.diagnostics}
        reports.append({"file": file, **report})
        if not as_json:
            _print_report(reports[-1])
    passed = all(report["ok"] for report in reports)
    if as_json:
        found = [one for report in reports for one in report["diagnostics"]]
        print_json({"ok": passed, "diagnostics": found, "files": reports})
    ctx.exit(0 if passed else 1)


def _checked(
    pattern: Pattern, lengths: Sequence[int], inputs: Sequence[str], where: dict[str, int]
) -> dict[str, Any]:
    """What is found about one pattern; a length that was asked for must fit."""
    fits: list[int] = []
    notes: list[str] = []
    if pattern.inputs and not inputs:
        names = ", ".join(pattern.inputs)
        notes.append(f"not tried at any length: no --input given for {names}")
        lengths = ()
    else:
        for length in lengths or DEFAULT_LENGTHS:
            try:
                pattern.bind(length, inputs=read_inputs(pattern, inputs, length), **where)
            except PatternError as error:
                if lengths:
                    raise
                notes.append(f"does not fit n = {length}: {error.diagnostics[0].message}")
            else:
                fits.append(length)
    return {
        "ok": True,
        "diagnostics": (),
        "pattern": pattern.name,
        "lengths": fits,
        "contracts": pattern.contracts,
        "notes": notes,
    }


def _print_report(report: dict[str, Any]) -> None:
    if not report["ok"]:
        print_diagnostics(report["diagnostics"])
        print_text(f"{report['file']}: {len(report['diagnostics'])} problem(s)")
        return
    lengths = ", ".join(map(str, report["lengths"]))
    print_text(f"{report['file']}: ok" + (f" (n = {lengths})" if lengths else ""))
    for contract in report["contracts"]:
        print_text(f"    {contract}    (listed, not evaluated)", style="dim")
    for note in report["notes"]:
        say(f"    note: {note}")


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
        text = sys.stdin.read() if path is None else read_text(path)
        formatted = format_source(text, name=name)
        if formatted != text:
            changed.append(name)
            if path is not None and not check:
                path.write_text(formatted, encoding="utf-8")
        if path is None and not check and not as_json:
            sys.stdout.write(formatted)
    passed = not (check and changed)
    if as_json:
        print_json({"ok": passed, "diagnostics": [], "changed": changed})
    else:
        for name in changed:
            say(f"{'would format' if check else 'formatted'} {name}")
    ctx.exit(0 if passed else 1)


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
