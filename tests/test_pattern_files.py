"""What every bundled pattern file must have: its source, what it is for, its family."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import attnloom
from attnloom.library.about import FAMILIES, family, is_causal, title
from attnloom.library.facts import facts

NAMES = sorted(path.stem for path in (Path(__file__).parents[1] / "patterns").glob("*.attn"))

SOURCE = re.compile(
    r"\(.*[^\d]([12]\d{3}), "  # authors or a maker, and the year
    r"(arXiv:\d{4}\.\d{4,5}|(model|code) [\w.-]+/[\w.-]+)\)$"
)


@pytest.mark.parametrize("name", NAMES)
def test_file_names_its_source_its_use_and_its_family(name: str) -> None:
    pattern = attnloom.load(name)
    assert pattern.name == name
    title, empty, *rest = pattern.doc.strip("\n").split("\n")
    assert SOURCE.search(title), "author, year, and arXiv id, model or repository"
    assert empty == ""
    *use, empty, family = rest
    assert use, "what it is for"
    assert empty == ""
    assert family.startswith("Family: ")
    assert family.removeprefix("Family: ") in FAMILIES


def test_every_file_is_bundled() -> None:
    assert sorted(attnloom.bundled()) == NAMES


def test_the_library_is_large() -> None:
    assert len(NAMES) >= 45
    families = {attnloom.load(name).doc.rsplit("Family: ")[-1].strip() for name in NAMES}
    assert families == set(FAMILIES)


LIBRARY = Path(__file__).parents[1] / "docs" / "library.md"
_TABLE = re.compile(r"(?<=<!-- patterns -->\n).*?(?=<!-- end -->)", re.DOTALL)


def table() -> str:
    """All patterns by family, as a table of Markdown."""
    rows = ["| pattern | family | causal | cost | hops | what it is |"]
    rows.append("| --- | --- | --- | --- | --- | --- |")
    patterns = [attnloom.load(name) for name in NAMES]
    for one in sorted(patterns, key=lambda one: (FAMILIES.index(family(one)), one.name)):
        causal = "yes" if is_causal(one) else ""
        link, found = f"[`{one.name}`](gallery/{one.name}.md)", facts(one.name)
        cells = (link, family(one), causal, f"`{found.cost_words}`", found.hops_words, title(one))
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def test_table_of_the_library_is_made_from_the_files(update_golden: bool) -> None:
    text = LIBRARY.read_text(encoding="utf-8")
    if update_golden:
        text = _TABLE.sub(lambda _: table(), text)
        LIBRARY.write_text(text, encoding="utf-8")
    found = _TABLE.search(text)
    assert found
    assert found[0] == table()


def test_page_of_the_library_describes_every_family() -> None:
    text = LIBRARY.read_text(encoding="utf-8")
    described = re.search(r"\| family \| what.*?\n\n", text, re.DOTALL)
    assert described
    assert re.findall(r"^\| (\w+) \|", described[0], re.MULTILINE)[1:] == list(FAMILIES)


def test_page_of_the_library_names_only_patterns_that_are_there() -> None:
    compared = LIBRARY.read_text(encoding="utf-8").split("## Compared")[1].split("### Windows")[0]
    named = {name for row in compared.split("\n") for name in re.findall(r"`(\w+)`", row)}
    assert named <= set(NAMES)
    assert len(named) >= 30
