"""What every bundled pattern file must have: its source, what it is for, its family."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import attnloom

NAMES = sorted(path.stem for path in (Path(__file__).parents[1] / "patterns").glob("*.attn"))
FAMILIES = (
    "dense", "windows", "chunks", "grids", "strides", "globals", "random", "data", "stacks",
)  # fmt: skip

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
