"""The gallery: a page and a picture for each bundled pattern, and an index by family."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import attnloom
from attnloom.compiler.analysis.report import Report
from attnloom.library.about import FAMILIES, family, title, use
from attnloom.library.drawing import panels, svg
from attnloom.library.facts import Facts
from attnloom.library.scenes import Scenes, scenes

INDEX = "README.md"

_HEAD = """\
# Gallery

Every bundled pattern, by family: its picture at a small scale, and what the analysis finds at the
published one. *Cost* is the order of the pairs that a head reads, in the pattern's own parameters,
and with several kinds of layers one for each; *reads* is their share of all pairs; *hops* is the
number of layers after which every intended pair of tokens has met, "not all" where some never do.
Queries go down, keys across; tokens before an orange line are memory tokens.

Made by `make gallery`. [The library](../library.md) says what a file holds, and what the patterns
were compared with.
"""

_ANALYSIS = re.compile(r"(?<=^```text\n).*?(?=^```$)", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Page:
    """A pattern's page and its picture."""

    name: str
    text: str
    picture: str

    def write(self, folder: Path) -> None:
        (folder / f"{self.name}.md").write_text(self.text, encoding="utf-8")
        (folder / f"{self.name}.svg").write_text(self.picture, encoding="utf-8")


def report(name: str) -> Report:
    """The analysis of a bundled pattern at its full scene."""
    full = scenes(name).full
    return full.pattern(name).analyze(
        full.n, heads=full.heads, layers=full.layers, inputs=full.inputs
    )


def page(name: str, found: Facts, analysis: str) -> Page:
    """The page of a bundled pattern, with the text of its analysis."""
    where = scenes(name)
    small = where.small.pattern(name)
    about = title(small)
    shown = panels(small, where.small)
    sections = [
        f"# {name}",
        f"**{about}**",
        use(small),
        f"![{name}]({name}.svg)",
        f"*In the picture: {where.small.words()}.*",
        "| | |\n| --- | --- |\n" + "\n".join(_rows(name, found)),
        f"## The file\n\n```attn\n{_code(small.text)}```",
        f"## Its analysis\n\n{_setting(name, where)}\n\n```text\n{analysis}\n```",
        f"[All patterns]({INDEX})",
    ]
    return Page(name, "\n\n".join(sections) + "\n", svg(shown, name))


def analysis_of(text: str) -> str:
    """The analysis on a page.

    Raises:
        ValueError: there is none.
    """
    found = _ANALYSIS.search(text)
    if found is None:
        raise ValueError("the page has no analysis")
    return found[0].removesuffix("\n")


def index(found: dict[str, Facts]) -> str:
    """The index, with the facts of all patterns."""
    patterns = {name: attnloom.load(name) for name in sorted(found)}
    parts = [_HEAD]
    for group in FAMILIES:
        parts += [f"\n## {group}\n", "| | pattern | cost | reads | hops |"]
        parts.append("| --- | --- | --- | --- | --- |")
        for name, pattern in patterns.items():
            if family(pattern) == group:
                one = found[name]
                cells = (
                    f'<a href="{name}.md"><img src="{name}.svg" height="96" alt="{name}"></a>',
                    f"[{name}]({name}.md)<br>{title(pattern)}",
                    f"`{one.cost_words}`",
                    f"{one.reads_words} of {one.n:,}²",
                    one.hops_words,
                )
                parts.append(f"| {' | '.join(cells)} |")
    return "\n".join(parts) + "\n"


def _rows(name: str, found: Facts) -> Iterable[str]:
    pattern = attnloom.load(name)
    yield f"| family | {family(pattern)} |"
    if pattern.params:
        given = ", ".join(f"`{key} = {value}`".lower() for key, value in pattern.params.items())
        yield f"| parameters | {given} |"
    for key, kind in pattern.inputs.items():
        yield f"| input | `{key}`: {kind} |"
    yield f"| contracts | {', '.join(f'`{one}`' for one in pattern.contracts)} |"
    yield f"| cost | `{found.cost_words}` |"
    yield f"| reads | {found.reads_words} of the pairs of {found.n:,} tokens |"
    yield f"| hops | {found.hops_words} |"


def _setting(name: str, where: Scenes) -> str:
    """How the analysis is had again, or with which inputs it was made."""
    command = f"`attnloom analyze {name} {where.full.options()}`"
    return f"{command}, with {where.given}:" if where.given else f"{command}:"


def _code(text: str) -> str:
    """A file without the comment above the pattern.

    >>> _code("# A title\\n#\\n# More.\\npattern p { full }\\n")
    'pattern p { full }\\n'
    """
    lines = text.splitlines(keepends=True)
    first = next(at for at, line in enumerate(lines) if not line.startswith("#"))
    return "".join(lines[first:])
