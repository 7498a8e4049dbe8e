"""The documentation is current: what is generated is as generated, and every block runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import attnloom
from attnloom.compiler.reference import primitive_table
from attnloom.grammar import format_source

DOCS = Path(__file__).parents[1] / "docs"
LANGUAGE = DOCS / "language.md"
_TABLE = re.compile(r"(?<=<!-- primitives -->\n).*?(?=<!-- end -->)", re.DOTALL)


def test_table_of_primitives_is_made_from_their_sources(update_golden: bool) -> None:
    text = LANGUAGE.read_text(encoding="utf-8")
    if update_golden:
        text = _TABLE.sub(lambda _: primitive_table() + "\n", text)
        LANGUAGE.write_text(text, encoding="utf-8")
    found = _TABLE.search(text)
    assert found
    assert found[0] == primitive_table() + "\n"


PATTERNS = [
    pytest.param(block, id=f"{page.stem}-{number}")
    for page in sorted(DOCS.glob("*.md"))
    for number, block in enumerate(
        re.findall(r"^```attn\n(.*?)^```$", page.read_text("utf-8"), re.M | re.S)
    )
]


@pytest.mark.parametrize("block", PATTERNS)
def test_pattern_in_the_documentation_is_a_formatted_pattern(block: str) -> None:
    assert attnloom.parse(block).bind(600).length >= 600
    assert format_source(block) == block


CODE = [
    pytest.param(block, id=f"{page.stem}-{number}")
    for page in sorted(DOCS.glob("*.md"))
    for number, block in enumerate(
        re.findall(r"^```python\n(.*?)^```$", page.read_text("utf-8"), re.M | re.S)
    )
]


@pytest.mark.parametrize("block", CODE)
def test_python_in_the_documentation_runs(block: str, tmp_path: Path) -> None:
    if "transformers" in block:
        pytest.importorskip("transformers")
    (tmp_path / "block.py").write_text(block, encoding="utf-8")
    start = [sys.executable, "-W", "ignore"]
    if "init_process_group" in block:
        start += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run([*start, "block.py"], check=True, cwd=tmp_path)
