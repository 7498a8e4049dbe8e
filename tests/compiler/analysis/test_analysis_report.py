"""The report: its keys, its single metrics, its properties and warnings, and the graphs."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import networkx as nx
import numpy as np
import pytest
from dense_oracle import distances, meant_pairs, other_pairs, parse
from hypothesis import assume, given, settings
from programs import Program, programs

import attnloom
from attnloom import PatternError
from attnloom.compiler.analysis.metrics import METRICS, PROPERTIES, metric, verdict
from attnloom.compiler.analysis.report import Report
from attnloom.compiler.analysis.warnings import CODES
from attnloom.compiler.vocabulary import METRICS as METRIC_NAMES
from attnloom.compiler.vocabulary import PROPERTIES as PROPERTY_NAMES


def analyzed(program: Program) -> Report:
    try:
        pattern = attnloom.parse(program.text, **program.params)
        report = pattern.analyze(program.n, heads=program.heads, inputs=program.inputs)
        report.stack  # noqa: B018 - binds all heads
    except PatternError:
        assume(False)
    return report


def reads_of(report: Report) -> np.ndarray:
    stack = report.stack
    every = np.arange(stack.start, stack.stop)
    return stack.kinds[0].region.contains(every[:, None], every)


# --- JSON ----------------------------------------------------------------------------------------

KEYS = {
    "pattern", "n", "memory", "heads", "layers", "causal", "work", "reach", "route", "hubs",
    "narrow", "cost", "unknown", "warnings", "method",
}  # fmt: skip

INNER = {
    "work": {"reads", "pairs", "density", "reads_per_token", "readers_per_token"},
    "reach": {
        "worst_hops", "mean_hops", "hops", "unreachable_pairs", "coverage_by_layer",
        "full_coverage_layer", "worst_pair",
    },
    "route": {"source", "target", "hops", "path"},
    "narrow": {"token_cut", "capacity", "squeeze", "profile"},
    "cost": {"complexity", "kv_cache", "tiles", "growth"},
    "method": {"engine", "exact"},
}  # fmt: skip


@pytest.mark.parametrize(("name", "layers"), [
    ("longformer", None), ("mistral", 6), ("memory_transformer", None), ("gemma3", 6),
    ("random_links", 3),
])  # fmt: skip
def test_report_has_the_same_keys_for_every_pattern(name: str, layers: int | None) -> None:
    found = attnloom.load(name).analyze(256, layers=layers).to_dict()
    assert set(found) == KEYS
    for section, names in INNER.items():
        assert names <= set(found[section])
    assert {"min", "median", "max"} <= set(found["work"]["reads_per_token"])
    assert json.loads(json.dumps(found)) == found
    assert {one["code"] for one in found["warnings"]} <= set(CODES)


def test_memory_tokens_are_called_by_their_names() -> None:
    body = "memory(2)\nwindow(each_side=1)"
    found = parse(body).analyze(50, pair=(-2, 40)).to_dict()
    assert found["route"] == {
        "source": "m0", "target": 40, "hops": 1, "arrival_layer": None,
        "path": [
            {"source": "m0", "target": 40, "layer": None, "by": "memory", "statement": "memory(2)"}
        ],
    }  # fmt: skip
    assert found["hubs"]["tokens"] == ["m0", "m1"]


def test_figures_of_a_published_pattern() -> None:
    found = attnloom.load("longformer").analyze(4096, layers=12).to_dict()
    assert found["work"]["reads"] == 2_043_134
    assert found["reach"]["hops"] == pytest.approx({"1": 0.12157, "2": 0.87843}, abs=1e-5)
    assert found["reach"]["mean_hops"] == pytest.approx(1.8784, abs=1e-4)
    assert found["hubs"]["loads"][0]["share"] == pytest.approx(0.8736, abs=1e-4)
    assert found["hubs"]["dependent_share"] == pytest.approx(0.7652, abs=1e-4)
    assert found["hubs"]["without"]["worst_hops"] == 16
    assert found["narrow"]["token_cut"] == 257
    assert found["narrow"]["capacity"] == 11
    assert found["method"] == {"engine": "zones", "exact": True, "samples": None, "note": None}


# --- single metrics ------------------------------------------------------------------------------


def test_every_name_of_the_language_has_its_function() -> None:
    assert set(METRICS) == set(METRIC_NAMES)
    # It asks for other lengths than that of a report.
    assert {*PROPERTIES, "prefix_stable"} == set(PROPERTY_NAMES)


@settings(max_examples=25)
@given(programs(most=30))
def test_metrics_and_properties_agree_with_dense_matrices(program: Program) -> None:
    report = analyzed(program)
    reads = reads_of(report)
    size = len(reads)
    assume(report.intended.holds_all_reads and report.intended.block == 1)
    is_causal = not np.triu(reads, 1).any()
    pairs = meant_pairs([reads]) if report.intended.reads_ahead else other_pairs(size)
    pairs = np.tri(size, k=-1, dtype=bool) if is_causal else pairs
    apart = distances(reads)[pairs]
    finite = apart[np.isfinite(apart)]
    expected = {
        "hops": apart.max() if len(apart) else 0,
        "unreachable": np.isinf(apart).sum(),
        "reads_per_token": reads.sum(1).max(),
        "readers_per_token": reads.sum(0).max(),
        "coverage_layer": apart.max() if len(apart) else 0,
    }
    if len(finite):
        expected["mean_hops"] = finite.mean()
    for name, value in expected.items():
        found = metric(report, name)
        assert found.is_exact
        assert found.value == pytest.approx(value), name
        assert found.low <= value + 1e-9
        assert found.high >= value - 1e-9
    assert (metric(report, "kv_cache").value is None) == (not is_causal)
    assert verdict(report, "causal").holds == is_causal
    assert verdict(report, "connected").holds == (not np.isinf(apart).any())
    assert verdict(report, "symmetric").holds == bool((reads == reads.T).all())
    others = reads | np.eye(size, dtype=bool)
    centres = np.flatnonzero(others.all(1) & others.all(0))
    assert verdict(report, "star").holds == bool(len(centres))
    if len(centres):
        assert verdict(report, "star").token == centres[0] + report.stack.start


@settings(max_examples=20)
@given(programs(most=30))
def test_counter_examples_of_properties_are_real(program: Program) -> None:
    report = analyzed(program)
    reads, start = reads_of(report), report.stack.start
    pair = verdict(report, "causal").pair
    if pair is not None:
        assert pair.source > pair.target
        assert reads[pair.target - start, pair.source - start]
    pair = verdict(report, "symmetric").pair
    if pair is not None:
        assert reads[pair.target - start, pair.source - start]
        assert not reads[pair.source - start, pair.target - start]
    token = verdict(report, "no_empty_rows").token
    if token is not None and program.heads == 1:
        assert not reads[token - start].any()


def test_metric_of_what_never_ends_is_infinite() -> None:
    report = parse("chunks(4)").analyze(16, layers=3)
    for name in ("hops", "coverage_layer"):
        found = metric(report, name)
        assert found.value == math.inf
        assert found.pair is not None
        assert found.pair.source // 4 != found.pair.target // 4
    assert metric(parse("full").analyze(16), "token_cut").value == math.inf


def test_one_metric_does_not_work_out_the_others() -> None:
    report = attnloom.load("longformer").analyze(2**20)
    assert metric(report, "reads").value == report.work.reads
    assert not {"hops", "hubs", "narrow", "cost"} & set(vars(report))


# --- warnings ------------------------------------------------------------------------------------

WARNED = {
    "W101": ("chunks(4)", 16, None),
    "W102": ("window(last=2) - self", 16, None),
    "W103": ("window(last=3)", 64, 4),
    "W104": ("only causal\nwhen layer == 0 { chunks(4) } else { where(j % 4 == 3) }", 32, 2),
    "W105": ("when layer == 1 { full } else { self }", 16, None),
    "W110": ("only causal\nwindow(last=4)\nbroadcast(first 2)", 64, None),
    "W201": ("window(each_side=2)\nglobal(0)", 64, None),
    "W202": ("self\nglobal(0)", 64, None),
    "W203": ("self\nglobal(0)", 1000, 3),
    "W301": ("window(last=2)", 512, None),
    "I401": ("full", 16, None),
}


@pytest.mark.parametrize("code", WARNED)
def test_warning_is_given_where_it_applies_and_not_elsewhere(code: str) -> None:
    body, n, layers = WARNED[code]
    given_codes = {one.code for one in parse(body).analyze(n, layers=layers).warnings}
    assert code in given_codes
    quiet = parse("window(each_side=64)\nglobal(first 8)").analyze(128, layers=3).warnings
    assert code not in {one.code for one in quiet} or code == "I401"


def test_documents_that_leak_over_memory_are_reported() -> None:
    pattern = parse("input doc: segments\nmemory(1)\nonly same(doc)\nfull")
    report = pattern.analyze(12, inputs={"doc": [0] * 6 + [1] * 6})
    assert [one.code for one in report.warnings if one.code == "W106"] == ["W106"]
    alone = parse("input doc: segments\nonly same(doc)\nfull")
    assert not alone.analyze(12, inputs={"doc": [0] * 6 + [1] * 6}).warnings
    assert set(WARNED) | {"W106"} == set(CODES)


def test_reverse_order_is_measured() -> None:
    body, n, layers = WARNED["W104"]
    report = parse(body).analyze(n, layers=layers)
    (message,) = [one.message for one in report.warnings if one.code == "W104"]
    i, j = np.indices((n, n))
    lost = (j < i) & (i // 4 != j // 4) & (j % 4 != 3)
    share = 100 * lost.sum() / (n * (n - 1) / 2)
    assert f"loses {share:.3g} %" in message


# --- without tokens ------------------------------------------------------------------------------


def test_taking_tokens_away_takes_their_links() -> None:
    pattern = parse("window(each_side=2)\nglobal([0, 9])\nmemory(1)")
    report = pattern.analyze(20, without="0..3")
    left = reads_of(pattern.analyze(20))
    gone = np.array([1, 2, 3])  # after the memory token
    left[gone], left[:, gone] = False, False
    assert (reads_of(report) == left).all()
    assert report.hubs.positions == (-1, 9)
    every = pattern.analyze(20, without="globals")
    assert every.hubs.count == 0
    assert every.hops.total == 18 * 17


# --- graphs --------------------------------------------------------------------------------------


@settings(max_examples=20)
@given(programs(most=24))
def test_graph_has_an_edge_where_a_key_is_read(program: Program) -> None:
    report = analyzed(program)
    pattern = attnloom.parse(program.text, **program.params)
    found = attnloom.graph(pattern, program.n, heads=program.heads, layers=1, inputs=program.inputs)
    names = [report.stack.name_of(one) for one in range(report.stack.start, report.stack.stop)]
    assert list(found.nodes) == names
    reads = reads_of(report) & other_pairs(len(names))
    assert (nx.to_numpy_array(found, nodelist=names, weight=None).astype(bool) == reads.T).all()
    for _, _, data in found.edges(data=True):
        assert data["rules"]
        assert all(rule in " ".join(program.text.split()) for rule in data["rules"])
        assert 1 <= data["heads"] <= program.heads


@settings(max_examples=20)
@given(programs(most=30))
def test_block_graph_has_an_edge_where_any_token_reads_any(program: Program) -> None:
    report = analyzed(program)
    pattern = attnloom.parse(program.text, **program.params)
    size = 4
    found = attnloom.graph(
        pattern, program.n, heads=program.heads, layers=1, block=size, inputs=program.inputs
    )
    reads = reads_of(report)
    rows, columns = np.nonzero(reads)
    expected = set(zip((columns // size).tolist(), (rows // size).tolist(), strict=True))
    assert set(found.edges) == expected
    bound, apart = dict(nx.all_pairs_shortest_path_length(found)), distances(reads)
    for i in range(0, len(reads), 3):
        for j in range(0, len(reads), 5):
            if i // size != j // size and np.isfinite(apart[i, j]):
                assert bound[j // size][i // size] <= apart[i, j]


def test_layered_graph_holds_the_routes_of_a_stack() -> None:
    pattern = parse("only causal\nwhen layer == 0 { chunks(4) } else { where(j % 4 == 3) }")
    found = attnloom.graph(pattern, 16, layers=2, layered=True)
    assert nx.has_path(found, (0, 0), (15, 2))
    assert found.number_of_nodes() == 3 * 16
    assert found.edges[(5, 0), (5, 1)] == {"kept": True} or found.edges[(5, 0), (5, 1)]["kept"]
    swapped = parse("only causal\nwhen layer == 1 { chunks(4) } else { where(j % 4 == 3) }")
    assert not nx.has_path(attnloom.graph(swapped, 16, layers=2, layered=True), (0, 0), (15, 2))


def test_graph_of_a_million_tokens_is_one_of_blocks() -> None:
    pattern = attnloom.load("longformer")
    found = attnloom.graph(pattern, 2**20, block=4096)
    assert found.number_of_nodes() == 256
    assert nx.diameter(found) == 2
    with pytest.raises(PatternError, match="blocks are fewer"):
        attnloom.graph(pattern, 2**20)


# --- what it costs to import and what it refuses -------------------------------------------------


def test_analysis_loads_neither_torch_nor_networkx_until_it_needs_them() -> None:
    code = (
        "import sys, attnloom; attnloom.load('mistral').analyze(4096).hops; "
        "print([m for m in ('torch', 'networkx', 'scipy', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layers": 0}, "layers must be at least 1"),
        ({"heads": 0}, "heads must be at least 1"),
        ({"pair": (0, 64)}, "pair must be at most 63"),
        ({"samples": 1}, "samples must be at least 2"),
        ({"between": ("70..80", "0..3")}, "between must hold a token"),
        ({"element": 3}, "element must be at most 0"),
    ],
)
def test_wrong_argument_is_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse("window(last=2)").analyze(64, **arguments)  # type: ignore[arg-type]


def test_too_much_work_is_a_diagnostic_at_the_pattern() -> None:
    report = parse("where(i * j % 7 == 3)").analyze(10**6)
    with pytest.raises(PatternError) as error:
        report.hops  # noqa: B018
    assert error.value.diagnostics[0].slug == "too-much-work"


def test_section_that_is_too_much_work_is_unknown_and_the_others_are_there() -> None:
    found = attnloom.load("blockbert").analyze(2**20)
    assert found.unknown("narrow") is not None
    data = found.to_dict()
    assert data["narrow"] is None
    assert data["unknown"].keys() == {"narrow"}
    assert data["work"]["reads"] == found.work.reads
    assert "Narrow   not known: the condition would be asked for" in str(found)
