"""The bundled patterns against the papers: each is compared with a definition written anew here."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import attnloom

ROOT = Path(__file__).parents[1]
NAMES = sorted(path.stem for path in (ROOT / "patterns").glob("*.attn"))

Mask = NDArray[np.bool_]
Definition = Callable[..., NDArray[Any]]


def whole(n: int, *tokens: int) -> NDArray[Any]:
    """Rows and columns of some tokens."""
    i, j = np.ogrid[:n, :n]
    return np.isin(i, tokens) | np.isin(j, tokens)


def band(n: int, back: int, ahead: int) -> NDArray[Any]:
    i, j = np.ogrid[:n, :n]
    return (i - j <= back) & (j - i <= ahead)


def strided(n: int, step: int) -> NDArray[Any]:
    i, j = np.ogrid[:n, :n]
    return (j <= i) & ((i - j < step) | ((i - j) % step == 0))


def fixed(n: int, step: int, summary: int) -> NDArray[Any]:
    i, j = np.ogrid[:n, :n]
    return (j <= i) & ((i // step == j // step) | (j % step >= step - summary))


def streaming(n: int, sinks: int, recent: int) -> NDArray[Any]:
    i, j = np.ogrid[:n, :n]
    return (j <= i) & ((j < sinks) | (i - j < recent))


# name, parameters, what it should be at length n; sizes small enough for every case to be met
CASES: list[tuple[str, dict[str, Any], Definition]] = [
    ("longformer", {"reach": 3}, lambda n: band(n, 3, 3) | whole(n, 0)),
    ("longformer", {"reach": 1, "cls": "[0, -1]"}, lambda n: band(n, 1, 1) | whole(n, 0, n - 1)),
    ("bert", {}, lambda n: np.ones((n, n))),
    ("cls_star", {}, lambda n: np.eye(n, dtype=bool) | whole(n, 0)),
    ("local", {"reach": 2}, lambda n: band(n, 2, 2)),
    ("streaming_llm", {"sinks": 2, "recent": 3}, lambda n: streaming(n, 2, 3)),
    ("streaming_llm", {"sinks": 0, "recent": 1}, lambda n: np.eye(n)),
    ("mistral", {"recent": 4}, lambda n: band(n, 3, 0)),
    ("sparse_transformer_strided", {"step": 4}, lambda n: strided(n, 4)),
    ("sparse_transformer_strided", {"step": 1}, lambda n: strided(n, 1)),
    ("sparse_transformer_fixed", {"step": 4, "summary": 2}, lambda n: fixed(n, 4, 2)),
    ("sparse_transformer_fixed", {"step": 3, "summary": 9}, lambda n: fixed(n, 3, 9)),
]


@pytest.mark.parametrize(
    ("name", "params", "definition"), CASES, ids=[f"{c[0]}-{i}" for i, c in enumerate(CASES)]
)
@pytest.mark.parametrize("n", [1, 2, 3, 5, 8, 17, 32])
def test_pattern_is_what_the_paper_says(
    name: str, params: dict[str, Any], definition: Definition, n: int
) -> None:
    found = attnloom.load(name, **params).mask(n)
    assert np.array_equal(found, np.broadcast_to(definition(n), (n, n)).astype(bool))


@pytest.mark.parametrize("question", ["[]", "0..3", "[2, 5..7]"])
def test_longformer_qa_makes_cls_and_the_question_global(question: str) -> None:
    tokens = {"[]": (), "0..3": (0, 1, 2), "[2, 5..7]": (2, 5, 6)}[question]
    pattern = attnloom.load("longformer_qa", reach=1)
    found = pattern.mask(12, inputs={"question": question})
    assert np.array_equal(found, band(12, 1, 1) | whole(12, 0, *tokens))


def test_memory_transformer_has_memory_in_front_of_dense_attention() -> None:
    pattern = attnloom.load("memory_transformer", slots=3)
    assert pattern.bind(5).memory == 3
    assert pattern.mask(5).all()
    assert pattern.mask(5).shape == (8, 8)


def test_gemma3_reads_everything_in_every_sixth_layer() -> None:
    pattern = attnloom.load("gemma3", recent=2)
    for layer in range(12):
        found = pattern.mask(9, layer=layer, layers=12)
        wanted = np.tri(9, dtype=bool) if layer in (5, 11) else band(9, 1, 0)
        assert np.array_equal(found, wanted)


@pytest.mark.parametrize("n", [3, 8, 24, 39, 40])
@pytest.mark.parametrize("head", [0, 1])
def test_bigbird_adds_random_blocks_that_are_not_read_anyway(n: int, head: int) -> None:
    size, picks = 4, 2
    blocks = -(-n // size)
    pattern = attnloom.load("bigbird", size=size, picks=picks)
    token_mask = pattern.mask(n, head=head, heads=2)
    found = token_mask[::size, ::size]
    assert np.array_equal(token_mask, found.repeat(size, 0).repeat(size, 1)[:n, :n])

    fixed_part = band(blocks, 1, 1) | whole(blocks, 0, blocks - 1)
    assert not (fixed_part & ~found).any()
    extra = (found & ~fixed_part).sum(1)
    assert np.array_equal(extra, np.minimum(picks, (~fixed_part).sum(1)))


def test_bigbird_draws_anew_for_each_head_and_seed() -> None:
    masks = [attnloom.load("bigbird", size=1).mask(64, head=h, heads=2) for h in (0, 1)]
    masks.append(attnloom.load("bigbird", size=1, seed=1).mask(64, head=0, heads=2))
    assert len({mask.tobytes() for mask in masks}) == 3


@pytest.mark.parametrize(
    ("name", "params", "most"),
    [
        ("longformer", {"reach": 1}, 2),
        ("cls_star", {}, 2),
        ("bert", {}, 1),
        ("bigbird", {"size": 2, "picks": 0}, 2),
        ("memory_transformer", {"slots": 1}, 1),
        ("sparse_transformer_strided", {"step": 5}, 2),
        ("sparse_transformer_fixed", {"step": 5, "summary": 1}, 2),
    ],
)
@pytest.mark.parametrize("n", [1, 2, 7, 25, 26])
def test_hops_are_at_most_what_the_contract_says(
    name: str, params: dict[str, Any], most: int, n: int
) -> None:
    pattern = attnloom.load(name, **params)
    assert f"hops <= {most}" in " ".join(pattern.contracts)
    step = pattern.mask(n) | np.eye(pattern.bind(n).length, dtype=bool)
    reached = np.linalg.matrix_power(step.astype(np.int64), most) > 0
    causal = any(contract.split()[-1] == "causal" for contract in pattern.contracts)
    assert np.array_equal(reached, np.tri(n, dtype=bool) if causal else np.ones_like(reached))


@pytest.mark.parametrize("name", NAMES)
def test_file_names_its_source_and_its_pattern(name: str) -> None:
    pattern = attnloom.load(name)
    assert pattern.name == name
    assert pattern.contracts
    assert re.search(r"[12]\d{3}, arXiv:\d{4}\.\d{5}\)", pattern.doc), "author, year and arXiv id"
    assert len(pattern.doc.strip().splitlines()) >= 3, "a title, and what it is for"


def test_every_file_is_bundled() -> None:
    assert sorted(attnloom.bundled()) == NAMES
