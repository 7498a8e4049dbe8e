"""A plugin for pytest that collects `.attn` files: every contract is a test.

It does nothing until it is asked for: `pytest -p attnloom.testing.pytest_plugin patterns`, or
`addopts = -p attnloom.testing.pytest_plugin` in the settings of a project. Then all `.attn` files
below the folders of the run are collected; `attn_paths` narrows that to some folders. A file is one
test for its meaning and one for each contract, at settings drawn by Hypothesis, or at the lengths
of `--attn-lengths`. A failure is shown with the smallest case, and the command that shows it again.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import attnloom
from attnloom import Pattern, PatternError
from attnloom.grammar import render

if TYPE_CHECKING:
    from attnloom.contracts import Finding
    from attnloom.testing.search import Result


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of a run, and the settings of a project that they go before."""
    group = parser.getgroup("attnloom", "contracts of attention patterns")
    group.addoption(
        "--attn-examples", type=int, metavar="N", help="cases to draw for each .attn file"
    )
    group.addoption("--attn-lengths", metavar="N,N", help="check .attn files at these lengths only")
    group.addoption("--attn-max-length", type=int, metavar="N", help="the longest sequence to draw")
    group.addoption("--attn-seed", type=int, metavar="S", help="which cases to draw")
    parser.addini("attn_paths", "folders whose .attn files are collected; all if empty", "paths")
    parser.addini("attn_examples", "cases to draw for each .attn file", default="100")
    parser.addini("attn_lengths", "check .attn files at these lengths only", default="")
    parser.addini("attn_max_length", "the longest sequence to draw", default="256")
    parser.addini("attn_seed", "which cases to draw", default="0")


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Collect a pattern file, if it lies below one of the folders that were named."""
    folders = parent.config.getini("attn_paths")
    is_wanted = not folders or any(file_path.is_relative_to(folder) for folder in folders)
    if file_path.suffix != ".attn" or not is_wanted:
        return None
    found: PatternFile = PatternFile.from_parent(parent, path=file_path)
    return found


class BrokenContractError(AssertionError):
    """A contract fails; the text shows where, why, and how to see it again."""


class PatternFile(pytest.File):
    """A `.attn` file: a test for its meaning, and one for each contract of its main pattern."""

    def collect(self) -> Iterable[pytest.Item]:
        """The tests of the file."""
        yield MeaningItem.from_parent(self, name="meaning")
        seen: dict[str, int] = {}
        for number, text in enumerate(self.pattern.contracts):
            seen[text] = seen.get(text, 0) + 1
            name = text if seen[text] == 1 else f"{text} ({seen[text]})"
            yield ContractItem.from_parent(self, name=name, number=number)

    @cached_property
    def pattern(self) -> Pattern:
        """The main pattern of the file."""
        try:
            return attnloom.load(self.shown)
        except PatternError as error:
            raise self.CollectError(str(error)) from None

    @cached_property
    def result(self) -> Result:
        """What a search finds about all contracts, made once."""
        from attnloom.testing.search import Search

        asked = self._asked
        lengths = [int(one) for one in str(asked("lengths")).split(",") if one.strip()]
        return Search(
            examples=int(asked("examples")),
            seed=int(asked("seed")),
            max_n=int(asked("max_length")),
            lengths=lengths,
        ).run(self.pattern)

    def _asked(self, name: str) -> Any:
        """An option of the run, or else the setting of the project."""
        given = self.config.getoption(f"attn_{name}")
        return self.config.getini(f"attn_{name}") if given is None else given

    @property
    def shown(self) -> str:
        """The path as a command line takes it."""
        try:
            return str(self.path.relative_to(Path.cwd()))
        except ValueError:
            return str(self.path)


class _Item(pytest.Item):
    parent: PatternFile

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], *rest: Any) -> Any:
        """What is wrong, without the traceback of this plugin."""
        if isinstance(excinfo.value, (BrokenContractError, PatternError)):
            return str(excinfo.value)
        return super().repr_failure(excinfo, *rest)


class MeaningItem(_Item):
    """The pattern has a meaning in some of the cases that are drawn."""

    def runtest(self) -> None:
        """Draw the cases, and fail if none has a meaning."""
        if not self.parent.result.tried:
            raise BrokenContractError("the pattern has no meaning in any of the cases drawn")

    def reportinfo(self) -> tuple[Path, int, str]:
        """Where the pattern begins."""
        return self.path, 0, f"{self.path.name}: meaning"


class ContractItem(_Item):
    """A contract holds in all cases that are drawn."""

    def __init__(self, *, number: int, **rest: Any) -> None:
        super().__init__(**rest)
        self.number = number

    def runtest(self) -> None:
        """Fail with the smallest case in which the contract does."""
        findings = self.parent.result.findings
        if not findings:
            pytest.skip("the pattern has no meaning in any of the cases drawn")
        finding = findings[self.number]
        if finding.fails:
            raise BrokenContractError(self._explained(finding))
        answer = finding.outcome.answer
        if answer.name != "HOLDS":
            pytest.skip(f"`{finding.outcome.text}` {answer.value}")

    def _explained(self, finding: Finding) -> str:
        return render(finding.diagnose(self.parent.pattern, self.parent.shown))

    def reportinfo(self) -> tuple[Path, int, str]:
        """The line of the contract."""
        place = self._place
        line, _ = place.source.location(place.span.start)
        return self.path, line - 1, f"{self.path.name}: {self.name}"

    @property
    def _place(self) -> Any:
        from attnloom.compiler.elaborate import contracts_of

        return contracts_of(self.parent.pattern._typed)[self.number].place
