"""`python -m attnloom.library FOLDER [NAME...]`: build the gallery there, or some of its pages."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import attnloom
from attnloom.library.facts import Facts, facts, write
from attnloom.library.gallery import INDEX, index, page, report


def build(folder: Path, names: Sequence[str]) -> None:
    """Analyse the patterns, keep their facts, and write their pages and the index."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        sys.stderr.write(f"{name}\n")
        found = report(name)
        write({name: Facts.of(found)})
        page(name, facts(name), str(found)).write(folder)
    every = attnloom.bundled()
    (folder / INDEX).write_text(index({name: facts(name) for name in every}), encoding="utf-8")
    for path in (*folder.glob("*.md"), *folder.glob("*.svg")):
        if path.name != INDEX and path.stem not in every:
            path.unlink()


if __name__ == "__main__":
    build(Path(sys.argv[1]), sys.argv[2:] or attnloom.bundled())
