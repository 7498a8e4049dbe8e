"""`check`: mistakes in pattern files, and contracts that are broken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import click

from attnloom import Pattern, PatternError
from attnloom.cli.options import (
    files_argument,
    input_option,
    json_option,
    load_pattern,
    read_inputs,
    read_settings,
    set_option,
)
from attnloom.cli.output import Failure, print_diagnostics, print_json, print_text, say

if TYPE_CHECKING:
    from attnloom.contracts import Finding
    from attnloom.grammar import Diagnostic

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
@click.option(
    "--heads",
    type=click.IntRange(min=1),
    help="How many heads a layer has.  [default: 1; with --property, 1 to 4 are drawn]",
)
@click.option(
    "--layers",
    type=click.IntRange(min=1, max=4096),
    help="How many layers the model has.  [default: 1; with --property, 1 to 4 are drawn]",
)
@click.option(
    "--property",
    "is_property",
    is_flag=True,
    help="Draw lengths, parameters within their ranges, heads, layers and inputs, and show the "
    "smallest case in which a contract fails. Needs the extra `testing`.",
)
@click.option(
    "--examples",
    type=click.IntRange(min=1),
    default=500,
    show_default=True,
    help="With --property: how many cases to draw.",
)
@click.option(
    "--seed", type=int, default=0, show_default=True, help="With --property: which cases."
)
@click.option(
    "--max-length",
    type=click.IntRange(min=1),
    default=256,
    show_default=True,
    help="With --property: the longest sequence to draw, unless -n is given.",
)
@click.option("--strict", is_flag=True, help="Fail also when a contract is not decided.")
@json_option
@click.pass_context
def check_command(
    ctx: click.Context,
    files: Sequence[str],
    lengths: Sequence[int],
    settings: Sequence[str],
    inputs: Sequence[str],
    heads: int | None,
    layers: int | None,
    is_property: bool,
    examples: int,
    seed: int,
    max_length: int,
    strict: bool,
    as_json: bool,
) -> None:
    """Check pattern files: syntax, names, types, lengths and contracts.

    What `expect` says is worked out for every head and layer, and where it is not so, the message
    shows why, and the command that shows it again.

    Example: attnloom check patterns/*.attn -n 512
    """
    asked = _Asked(lengths, settings, inputs, heads, layers)
    if is_property:
        asked = _Drawn(lengths, settings, inputs, heads, layers, examples, seed, max_length)
    reports = []
    for file in files:
        try:
            report = asked.look_at(file)
        except PatternError as error:
            report = _Report(file, error.diagnostics)
        report = report.strictly() if strict else report
        reports.append(report)
        if not as_json:
            report.show()
    passed = all(report.ok for report in reports)
    if as_json:
        found = [one for report in reports for one in report.diagnostics]
        files_found = [report.to_dict() for report in reports]
        print_json({"ok": passed, "diagnostics": found, "files": files_found})
    ctx.exit(0 if passed else 1)


@dataclass(frozen=True)
class _Report:
    """What is found about one file."""

    file: str
    diagnostics: tuple[Diagnostic, ...] = ()
    pattern: Pattern | None = None
    where: str = ""
    lengths: tuple[int, ...] = ()
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()
    is_strict: bool = False

    @property
    def undecided(self) -> int:
        return sum(one.outcome.answer.name == "OPEN" for one in self.findings)

    @property
    def ok(self) -> bool:
        return not self.diagnostics and not (self.is_strict and self.undecided)

    def strictly(self) -> _Report:
        return replace(self, is_strict=True)

    def show(self) -> None:
        """Print it for people: what is wrong, a line for the file, and one for each contract."""
        print_diagnostics(self.diagnostics)
        print_text(f"{self.file}: {self._verdict()}")
        if self.pattern is None:
            return
        said = self.pattern.contracts
        width = max(map(len, said), default=0)
        found = [one.outcome for one in self.findings]
        for number, text in enumerate(said):
            answer = "not checked"
            if found:
                outcome = found[number]
                answer = outcome.answer.value
                if outcome.answer.name in ("FAILS", "OPEN"):
                    answer += f" at n = {self.findings[number].case.n}: {outcome.words}"
            print_text(f"    {text:{width}}  {answer}", style="dim")
        for note in self.notes:
            say(f"    note: {note}")

    def _verdict(self) -> str:
        where = f" ({self.where})" if self.where else ""
        if self.pattern is None:
            return f"{len(self.diagnostics)} problem(s)"
        if self.diagnostics:
            broken, total = len(self.diagnostics), len(self.findings)
            return f"{broken} of {total} contracts {'fails' if broken == 1 else 'fail'}{where}"
        undecided = f", {self.undecided} not decided" if self.undecided else ""
        return f"{'ok' if self.ok else 'not ok'}{where}{undecided}"

    def to_dict(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            "file": self.file,
            "ok": self.ok,
            "diagnostics": self.diagnostics,
        }
        if self.pattern is None:
            return found
        listed = [{"text": text, "answer": "unchecked"} for text in self.pattern.contracts]
        return {
            **found,
            "pattern": self.pattern.name,
            "checked": self.where,
            "lengths": list(self.lengths),
            "contracts": [one.to_dict() for one in self.findings] or listed,
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class _Asked:
    """What files are checked with."""

    lengths: Sequence[int]
    settings: Sequence[str]
    inputs: Sequence[str]
    heads: int | None
    layers: int | None

    @property
    def values(self) -> dict[str, Any]:
        """The values of parameters that are given."""
        return read_settings(self.settings)

    def look_at(self, file: str) -> _Report:
        """Load a file and check its contracts at all lengths; one asked for must fit.

        Raises:
            PatternError: the file is wrong, or has no meaning at a length that was asked for.
        """
        from attnloom.contracts import Case, check_case, combined

        pattern = load_pattern(file, self.settings)
        if pattern.inputs and not self.inputs:
            names = ", ".join(pattern.inputs)
            note = f"not tried at any length: no --input given for {names}"
            return _Report(file, pattern=pattern, notes=(note,))
        lengths: list[int] = []
        findings: list[list[Finding]] = []
        notes: list[str] = []
        for length in sorted(self.lengths or DEFAULT_LENGTHS):
            given = read_inputs(pattern, self.inputs, length)
            case = Case(length, self.heads or 1, self.layers or 1, self.values, given)
            try:
                findings.append(check_case(pattern, case))
            except PatternError as error:
                if self.lengths:
                    raise
                notes.append(f"does not fit n = {length}: {error.diagnostics[0].message}")
            else:
                lengths.append(length)
        found = combined(findings)
        broken = tuple(one.diagnose(pattern, file) for one in found if one.fails)
        where = ", ".join(map(str, lengths))
        return _Report(
            file, broken, pattern, f"n = {where}" if where else "", tuple(lengths), tuple(found),
            tuple(notes),
        )  # fmt: skip


@dataclass(frozen=True)
class _Drawn(_Asked):
    """Files are checked with what is drawn."""

    examples: int
    seed: int
    max_length: int

    def look_at(self, file: str) -> _Report:
        """Load a file and search for cases in which its contracts fail.

        Raises:
            PatternError: the file is wrong.
            Failure: Hypothesis is not installed.
        """
        try:
            from attnloom.testing.search import Search
        except ModuleNotFoundError as error:
            if error.name != "hypothesis":
                raise
            raise Failure("--property needs Hypothesis: pip install 'attnloom[testing]'") from None

        pattern = load_pattern(file, self.settings)
        if self.inputs and len(self.lengths) != 1:
            raise click.UsageError("--property draws the inputs; --input goes with one length, -n")
        given = read_inputs(pattern, self.inputs, self.lengths[0]) if self.inputs else {}
        result = Search(
            self.examples, self.seed, self.max_length, self.lengths, self.heads, self.layers,
            self.values, given,
        ).run(pattern)  # fmt: skip
        broken = tuple(one.diagnose(pattern, file) for one in result.broken)
        notes = []
        if result.meaningless:
            notes.append(f"in {result.meaningless} more cases the pattern has no meaning")
        if not result.tried:
            notes.append("nothing was checked")
        return _Report(
            file, broken, pattern, f"{result.tried} cases drawn, seed {self.seed}",
            tuple(self.lengths), result.findings, tuple(notes),
        )  # fmt: skip
