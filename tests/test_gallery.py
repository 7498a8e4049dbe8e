"""The gallery is current: its pages are as made, and what they say is what the analysis finds."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as arrays

import attnloom
from attnloom.library.drawing import Panel, panels, svg
from attnloom.library.facts import Facts, facts
from attnloom.library.gallery import INDEX, analysis_of, index, page, report
from attnloom.library.scenes import scenes

GALLERY = Path(__file__).parents[1] / "docs" / "gallery"
NAMES = attnloom.bundled()
QUICK = ("cls_star", "decoder", "gemma3", "longformer", "mistral", "packing", "streaming_llm")
REMEDY = "it is not as made: make gallery"


def kept(name: str) -> str:
    return (GALLERY / f"{name}.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_page_and_picture_are_made_from_the_file(name: str) -> None:
    text = kept(name)
    made = page(name, facts(name), analysis_of(text))
    assert made.text == text, REMEDY
    assert made.picture == (GALLERY / f"{name}.svg").read_text(encoding="utf-8"), REMEDY


@pytest.mark.parametrize(
    "name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in NAMES)]
)
def test_page_says_what_the_analysis_finds(name: str) -> None:
    found = report(name)
    assert Facts.of(found) == facts(name), REMEDY
    assert str(found) == analysis_of(kept(name)), REMEDY


def test_index_is_made_from_the_facts() -> None:
    assert (GALLERY / INDEX).read_text(encoding="utf-8") == index({n: facts(n) for n in NAMES})


def test_gallery_holds_a_page_and_a_picture_for_each_pattern_and_the_index() -> None:
    wanted = {f"{name}.{kind}" for name in NAMES for kind in ("md", "svg")}
    assert {path.name for path in GALLERY.iterdir()} == wanted | {INDEX}


def test_gallery_is_small() -> None:
    assert sum(path.stat().st_size for path in GALLERY.iterdir()) < 2_000_000


@pytest.mark.parametrize("name", NAMES)
def test_facts_are_those_of_the_scene(name: str) -> None:
    found, full = facts(name), scenes(name).full
    assert (found.n, found.heads, found.layers) == (full.n, full.heads, full.layers)


def test_links_of_the_index_lead_to_files() -> None:
    text = (GALLERY / INDEX).read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#:]+)\)|(?:href|src)=\"([^\"]+)\"", text)
    assert len(links) >= 3 * len(NAMES)
    assert all((GALLERY / (a or b)).exists() for a, b in links)


# --- pictures ------------------------------------------------------------------------------------


def painted(picture: str) -> list[np.ndarray]:
    """The masks that a picture shows, painted rectangle by rectangle."""
    found = []
    for group in ElementTree.fromstring(picture).iter("{http://www.w3.org/2000/svg}g"):
        ground, path, *_ = group
        mask = np.zeros((int(ground.attrib["height"]), int(ground.attrib["width"])), dtype=int)
        rectangle = re.compile(r"M(\d+) (\d+)h(\d+)v(\d+)h-(\d+)z")
        for x, y, width, height, back in rectangle.findall(path.attrib["d"]):
            assert width == back
            mask[int(y) : int(y) + int(height), int(x) : int(x) + int(width)] += 1
        assert mask.max(initial=0) <= 1, "no pair is painted twice"
        found.append(mask.astype(bool))
    return found


@given(arrays.arrays(bool, arrays.array_shapes(min_dims=2, max_dims=2, max_side=12)))
def test_picture_paints_every_pair_once(mask: np.ndarray) -> None:
    n = min(mask.shape)
    (found,) = painted(svg([Panel(mask[:n, :n], 0, "")], "p"))
    assert np.array_equal(found, mask[:n, :n])


def test_picture_in_the_gallery_is_the_mask() -> None:
    small = scenes("longformer").small
    (found,) = painted((GALLERY / "longformer.svg").read_text(encoding="utf-8"))
    assert np.array_equal(found, attnloom.load("longformer", **small.params).mask(small.n))


def test_layers_that_differ_have_panels_of_their_own() -> None:
    small = scenes("gemma3").small
    local, dense = panels(small.pattern("gemma3"), small)
    assert (local.caption, dense.caption) == ("layers 0, 1, 2, 3, 4", "layer 5")
    assert np.array_equal(dense.mask, np.tri(small.n, dtype=bool))
    assert not local.mask[-1, 0]
