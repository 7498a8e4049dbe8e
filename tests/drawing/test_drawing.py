"""Pictures and pages: what they show is what the report says, and they stand alone."""

from __future__ import annotations

import re
import struct
import xml.etree.ElementTree as ElementTree
import zlib
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import attnloom
from attnloom.compiler.analysis import picture as picture_module
from attnloom.compiler.analysis.picture import picture
from attnloom.drawing.page import page
from attnloom.drawing.plots import PLOTS, write_plots
from attnloom.drawing.svg import Scale, png

CASES = [
    ("longformer", 48, {"reach": 3}, None),
    ("longformer", 4096, {}, 12),
    ("bigbird", 2000, {}, None),
    ("streaming_llm", 3000, {}, 6),
    ("memory_transformer", 100, {}, None),
    ("gemma3", 3000, {}, 12),
    ("random_links", 2000, {}, 4),
    ("swin", 4096, {}, 3),
    ("decoder", 1, {}, None),
]


def cells_of_mask(name: str, n: int, cells: int) -> np.ndarray:
    mask = attnloom.load(name).mask(n).astype(float)
    edges = np.arange(cells + 1) * len(mask) // cells
    sums = np.add.reduceat(np.add.reduceat(mask, edges[:-1], 0), edges[:-1], 1)
    return sums / np.multiply.outer(np.diff(edges), np.diff(edges))


@pytest.mark.parametrize(
    ("name", "n"),
    [
        ("longformer", 100), ("bigbird", 1000), ("memory_transformer", 50), ("swin", 3136),
        ("streaming_llm", 1500), ("sparse_transformer_strided", 900), ("random_links", 333),
    ],
)  # fmt: skip
def test_cells_of_a_picture_are_those_of_the_mask(name: str, n: int) -> None:
    stack = attnloom.load(name).analyze(n).stack
    found = picture(stack.kinds[0], 13, stack.start, stack.stop)
    assert found is not None
    assert found.method.is_exact
    assert found.shares.sum(0) == pytest.approx(cells_of_mask(name, n, 13))


def test_sampled_rows_come_near_the_exact_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    stack = attnloom.load("longformer", reach=40).analyze(5000).stack
    exact = picture(stack.kinds[0], 10, 0, 5000)
    monkeypatch.setattr(picture_module, "_MOST_RANGES", 4000)
    guess = picture(stack.kinds[0], 10, 0, 5000)
    assert exact is not None
    assert guess is not None
    assert not guess.method.is_exact
    assert abs(guess.shares - exact.shares).max() < 0.02


def test_each_pair_belongs_to_one_rule() -> None:
    stack = attnloom.load("longformer", reach=3).analyze(20).stack
    found = picture(stack.kinds[0], 20, 0, 20)
    assert found is not None
    assert found.rules == ("window(each_side=reach)", "global(cls)")
    i, j = np.indices((20, 20))
    near = abs(i - j) <= 3
    assert (found.shares[0] == near).all()
    assert (found.shares[1] == (~near & ((i == 0) | (j == 0)))).all()


def test_part_of_the_square_can_be_drawn() -> None:
    stack = attnloom.load("local", reach=2).analyze(1000).stack
    found = picture(stack.kinds[0], 8, 100, 108)
    assert found is not None
    i, j = np.indices((8, 8))
    assert (found.shares[0] == (abs(i - j) <= 2)).all()


@pytest.mark.parametrize(("name", "n", "params", "layers"), CASES)
def test_every_plot_is_well_formed(name: str, n: int, params: dict, layers: int | None) -> None:
    report = attnloom.load(name, **params).analyze(n, layers=layers)
    for plot in PLOTS.values():
        drawn = plot(report)
        if drawn is None:
            continue
        root = ElementTree.fromstring(drawn.svg)
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert "nan" not in re.sub(r"base64,[^\"]*", "", drawn.svg)
        assert re.match("exact|sampled", drawn.label)


def test_arcs_are_the_reads_of_other_tokens() -> None:
    pattern = attnloom.load("longformer", reach=2)
    drawn = PLOTS["arcs"](pattern.analyze(30))
    assert drawn is not None
    assert drawn.svg.count("<path") == pattern.mask(30).sum() - 30
    assert "7 reads 5: window(each_side=reach)" in drawn.svg
    assert PLOTS["arcs"](pattern.analyze(65)) is None


def test_bars_of_hops_say_what_the_report_says() -> None:
    report = attnloom.load("longformer").analyze(4096)
    drawn = PLOTS["hops"](report)
    assert drawn is not None
    for step in report.hops.steps:
        assert f"{step.name} hops: " in drawn.svg
        assert f"({step.pairs:,} pairs)" in drawn.svg


def test_plots_are_files_of_their_own(tmp_path: Path) -> None:
    report = attnloom.load("longformer", reach=3).analyze(48)
    paths = write_plots(report, tmp_path / "new")
    assert {path.stem for path in paths} >= {"mask", "hops", "growth", "hubs", "cut", "arcs"}
    for path in paths:
        root = ElementTree.parse(path).getroot()
        assert root.find("{http://www.w3.org/2000/svg}style") is not None


class Outline(HTMLParser):
    """Tags that are open, and what would be loaded from elsewhere."""

    VOID = ("meta", "br", "rect", "line", "image", "circle", "polyline", "polygon", "path")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loaded: list[str] = []
        self.titles: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loaded += [
            str(value)
            for name, value in attrs
            if name in ("src", "href") and not str(value).startswith("data:")
        ]
        self.loaded += [tag] if tag in ("script", "link", "iframe") else []
        if tag not in ("meta",):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "h2":
            self.titles.append(data)


@pytest.mark.parametrize(("name", "n", "params", "layers"), CASES)
def test_page_stands_alone(name: str, n: int, params: dict, layers: int | None) -> None:
    report = attnloom.load(name, **params).analyze(n, layers=layers)
    text = page(report)
    outline = Outline()
    outline.feed(text)
    assert outline.open == []
    assert outline.loaded == []
    assert "All figures" in outline.titles
    assert f"{report.work.reads:,}" in text
    for one in report.warnings:
        assert one.code in text
    assert ("Every read" in outline.titles) == (report.stack.length <= 64)


def test_page_escapes_what_the_pattern_says() -> None:
    pattern = attnloom.parse("pattern p { where(i < j and j > 2) } # <script>")
    text = page(pattern.analyze(20))
    assert "<script" not in text
    assert "where(i &lt; j and j &gt; 2)" in text


def test_png_holds_the_pixels() -> None:
    pixels = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
    data = png(pixels)
    at, chunks = 8, {}
    while at < len(data):
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        body = data[at + 8 : at + 8 + size]
        (check,) = struct.unpack(">I", data[at + 8 + size : at + 12 + size])
        assert check == zlib.crc32(kind + body)
        chunks[kind] = body
        at += 12 + size
    assert struct.unpack(">II", chunks[b"IHDR"][:8]) == (3, 2)
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), dtype=np.uint8).reshape(2, 13)
    assert (rows[:, 0] == 0).all()
    assert (rows[:, 1:].reshape(2, 3, 4) == pixels).all()


def test_ticks_lie_within_the_scale() -> None:
    for high in (1, 2, 7, 99, 12345, 3.5e9):
        ticks = Scale(0, high, 0, 100).ticks()
        assert 2 <= len(ticks) <= 12
        assert ticks[0] == 0
        assert ticks[-1] <= high
