"""The order of a pattern's work in its own parameters."""

from __future__ import annotations

import pytest
from dense_oracle import parse

import attnloom

MISSION = {
    "full": "O(n**2)",
    "global(first g)": "O(g*n)",
    "window(each_side=w)": "O(n*w)",
    "window(each_side=w)\nglobal(first g)": "O(n*w + g*n)",
}

CASES = {
    "none": "O(1)",
    "self": "O(n)",
    "window(each_side=64)": "O(n)",
    "window(left=a, right=2 * a)": "O(n*a + n*(2 * a))",
    "only causal\nfull": "O(n**2)",
    "only window(last=w)\nfull": "O(n*w)",
    "full & window(last=w)": "O(n*w)",
    "window(last=w) - self": "O(n*w)",
    "~window(last=w)": "O(n**2)",
    "global(5)": "O(n)",
    "global(every s)": "O(n**2/s)",
    "global([0, 9, 20..30])": "O(n)",
    "broadcast(last g)": "O(g*n)",
    "random(links=k)": "O(n*k)",
    "expander(degree=2 * k)": "O(n*(2 * k))",
    "stride(s)": "O(n**2/s)",
    "chunks(s)": "O(n*s)",
    "offsets(base=2)": "O(n*log(n))",
    "offsets([1, 2, 4])": "O(n)",
    "blocks(s) { window(each_side=w) }": "O(n*s*w)",
    "blocks(s) { global(first g) }": "O(s*g*n)",
    "blocks(s) { full }": "O(n**2)",
    "grid(8, 8) { near(w) }": "O(n*w**2)",
    "grid(s, w) { row; column }": "O(n*w + n*s)",
    "grid(s, w) { neighborhood(k, k, stride=2) }": "O(n*k**2)",
    "grid(s, w) { neighborhood(rows=k) }": "O(n*k*w)",
    "grid(s, w) { neighborhood(rows=k) & neighborhood(columns=4) & causal }": "O(n*k)",
    "memory(g)\nself": "O(g*n)",
    "when w > 3 { full } else { self }": "O(n**2)",
    "when w > 300 { full } else { self }": "O(n)",
    "where(i % 3 == 0)": "O(n**2)",
}


@pytest.mark.parametrize("body", [*MISSION, *CASES])
def test_order_is_in_the_parameters_as_they_are_written(body: str) -> None:
    header = "pattern p(w = 8, g = 2, s = 4, k = 3, a = 5) {\n"
    report = attnloom.parse(f"{header}{body}\n}}").analyze(64)
    assert report.cost.complexity == ({**MISSION, **CASES}[body],)


def test_called_pattern_has_the_arguments_of_the_caller() -> None:
    text = "use longformer\npattern p(g = 3, w = 8) { longformer(reach=w, cls=first g) & causal }"
    assert attnloom.parse(text).analyze(64).cost.complexity == ("O(n*w + g*n)",)


def test_both_branches_count_where_a_called_pattern_chooses_by_its_parameter() -> None:
    text = (
        "pattern inner(wide = true) { when wide { window(each_side=9) } else { chunks(64) } }\n"
        "pattern p { inner(wide=false) }"
    )
    assert attnloom.parse(text).analyze(256).cost.complexity == ("O(n)",)


def test_each_kind_of_layer_has_an_order_of_its_own() -> None:
    report = attnloom.load("gemma3").analyze(4096, layers=6)
    assert report.cost.complexity == ("O(n*recent)", "O(n**2)")


@pytest.mark.parametrize(
    ("name", "order", "growth"),
    [
        ("longformer", "O(n*reach + count(cls)*n)", 2),
        ("streaming_llm", "O(sinks*n + n*recent)", 2),
        ("cls_star", "O(n)", 2),
        ("logsparse", "O(n*log(n))", 2.1),
        ("bert", "O(n**2)", 4),
        ("sparse_transformer_strided", "O(n*step + n**2/step)", 4),
    ],
)
def test_measured_growth_is_that_of_the_order(name: str, order: str, growth: float) -> None:
    report = attnloom.load(name).analyze(2**22)
    assert report.cost.complexity == (order,)
    assert report.cost.growth is not None
    assert report.cost.growth.reads == pytest.approx(growth, rel=0.02)


def test_growth_is_that_from_half_the_length() -> None:
    growth = parse("window(last=4)").analyze(1000).cost.growth
    assert growth is not None
    assert growth.tokens == 500
    assert growth.reads == pytest.approx((4 * 1000 - 6) / (4 * 500 - 6))
    assert growth.cache == 1
