"""Every diagnostic as a user sees it: `tests/errors/<slug>/<case>.attn` beside `<case>.err`.

A case is a file that `diagnose` finds something wrong with, and the exact text of what it says. A
case without `.attn` is about a file that is missing. Files that a case refers to lie in a folder
below. A new case is written with `pytest tests/grammar/test_golden_errors.py --update-golden`, and
reviewed as its user would: is the mark under the right thing, and can what it says be typed?
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

import attnloom
from attnloom import contracts
from attnloom.grammar import Diagnostic, PatternError, diagnostics, render

ERRORS = Path(__file__).parents[1] / "errors"

# Files that are too large for the repository, or no files at all.
MADE: dict[str, Callable[[Path], object]] = {
    "cannot-read/folder": lambda path: path.mkdir(),
    "cannot-read/folder_with_patterns": lambda path: (
        path.mkdir(),
        (path / "longformer.attn").write_text("pattern longformer { full }\n"),
    ),
    "cannot-read/misspelt": lambda path: path.with_name("misspelled.attn").touch(),
    "too-large/bytes": lambda path: path.write_text("#" * 1_000_001),
    "too-large/words": lambda path: path.write_text(
        "pattern p {\n    global([" + ", ".join(map(str, range(15_000))) + "])\n}\n"
    ),
}


# Found only in a text that is no file; see tests/compiler/test_program.py.
WITHOUT_FILE = {"use-needs-file"}

# What `diagnose` may find: each of these slugs must have a case.
SLUGS = sorted(name for name in diagnostics.SLUGS if name not in WITHOUT_FILE)


def diagnose(path: Path) -> list[Diagnostic]:
    """Everything that is wrong with a pattern file, in the order it is shown.

    A file that begins with `# at n = 8` is also bound to that length, and its contracts checked.
    """
    try:
        pattern = attnloom.load(path)
        length = re.match(r"# at n = (\d+)\n", pattern.text)
        if length:
            pattern.reads(int(length[1]))
            found = contracts.check_case(pattern, contracts.Case(int(length[1])))
            return [one.diagnose(pattern, path.name) for one in found if one.fails]
    except PatternError as error:
        return list(error.diagnostics)
    return []


@dataclass(frozen=True)
class Case:
    slug: str
    name: str

    @property
    def golden(self) -> Path:
        return ERRORS / self.slug / f"{self.name}.err"

    def place(self, scratch: Path) -> Path:
        """The folder in which the file of this case lies."""
        make = MADE.get(f"{self.slug}/{self.name}")
        if make is None:
            return ERRORS / self.slug
        make(scratch / f"{self.name}.attn")
        return scratch


def cases() -> list[Case]:
    files = [*ERRORS.glob("*/*.attn"), *ERRORS.glob("*/*.err")]
    names = {(file.parent.name, file.stem) for file in files}
    names |= {(key.split("/")[0], key.split("/")[1]) for key in MADE}
    return [Case(*one) for one in sorted(names)]


CASES = cases()
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.slug}-{case.name}")


@pytest.fixture
def found(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Diagnostic]:
    """The diagnostics of a case; its file is shown under its name alone."""
    monkeypatch.chdir(case.place(tmp_path))
    return diagnose(Path(f"{case.name}.attn"))


@each_case
def test_diagnostic_reads_as_agreed(
    case: Case, found: list[Diagnostic], update_golden: bool
) -> None:
    text = "\n\n".join(render(one) for one in found) + "\n"
    if update_golden:
        case.golden.parent.mkdir(exist_ok=True)
        case.golden.write_text(text, encoding="utf-8")
    assert case.golden.exists(), "no golden file: run with --update-golden, and review what it says"
    assert text == case.golden.read_text(encoding="utf-8")


@each_case
def test_diagnostic_says_what_was_found_and_expected_and_what_to_type(
    case: Case, found: list[Diagnostic]
) -> None:
    assert case.slug in {one.slug for one in found}
    for one in found:
        assert one.found
        assert one.expected
        assert one.hints
        assert any(
            "`" in hint or "character" in hint or "name a file" in hint for hint in one.hints
        )


@pytest.mark.parametrize("slug", SLUGS)
def test_every_slug_has_a_case(slug: str) -> None:
    assert slug in {case.slug for case in CASES}


# --- hints that show the whole line --------------------------------------------------------------

LINES = [
    (case, hint)
    for case in CASES
    if case.golden.exists()
    for hint in re.findall(r"^help: write `(.*)`$", case.golden.read_text("utf-8"), re.MULTILINE)
]


@pytest.mark.parametrize(("case", "hint"), LINES, ids=lambda one: getattr(one, "name", None))
def test_line_of_a_hint_mends_this_mistake(
    case: Case, hint: str, found: list[Diagnostic], tmp_path: Path
) -> None:
    """With the line put in, the file is fine, or the next mistake is another one or further on."""
    first = found[0]
    number, _ = first.source.location(first.span.start)
    # Only a comma may be missing at the end of the line before.
    remedies = [mended(first.source.text, at, hint) for at in (number, number - 1) if at]
    assert any(goes_further(text, first, tmp_path / "mended.attn") for text in remedies)


def mended(text: str, number: int, hint: str) -> str:
    """The text with another line in place of a 1-based one, indented as that is."""
    lines = text.splitlines(keepends=True) or [""]
    line = lines[number - 1]
    indent = line[: len(line) - len(line.lstrip())]
    lines[number - 1] = indent + hint + line[len(line.rstrip("\r\n")) :]
    return "".join(lines)


def goes_further(text: str, first: Diagnostic, path: Path) -> bool:
    path.write_text(text, encoding="utf-8", newline="")
    for one in diagnose(path):
        is_same = (one.slug, one.message) == (first.slug, first.message)
        if one.span.start <= first.span.start and is_same:
            return False
        if one.source.location(one.span.start)[0] < first.source.location(first.span.start)[0]:
            return False
    return True
