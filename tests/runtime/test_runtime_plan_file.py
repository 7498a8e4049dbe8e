"""Plans as files: what is saved is what is loaded, and nothing else gets through."""

from __future__ import annotations

import json
import multiprocessing
import os
import struct
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

import attnloom
from attnloom.runtime import plan_cache
from attnloom.runtime.plan import Plan
from attnloom.runtime.plan_cache import PlanCache
from attnloom.runtime.plan_file import FORMAT, PlanFileError, _digest
from attnloom.runtime.plan_stack import PlanStack

TEXTS = {
    "window": "window(each_side=9)",
    "orders": "window(each_side=5, dilation=4)",
    "packed": "window(each_side=3); global(every 37)",
    "random": "random(links=3, seed=2)",
    "heads": "when head % 2 == 0 { window(last=9) } else { stride(16) }",
    "memory": "memory(3); window(each_side=2)",
    "nothing": "none",
}


def plan_of(name: str, n: int = 200, heads: int = 4) -> Plan:
    return attnloom.parse(f"pattern p {{ {TEXTS[name]} }}").compile(n, heads=heads, block=(32, 16))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def assert_same(one: Plan, other: Plan) -> None:
    assert [x.fingerprint() for x in one.layouts] == [x.fingerprint() for x in other.layouts]
    assert torch.equal(one.layout_of_head, other.layout_of_head)
    assert (one.memory, one.description) == (other.memory, other.description)
    assert repr(one) == repr(other)


@pytest.mark.parametrize("name", TEXTS)
def test_loaded_plan_is_the_saved_one(name: str, tmp_path: Path) -> None:
    plan = plan_of(name)
    plan.save(tmp_path / "plan")
    loaded = Plan.load(tmp_path / "plan")
    assert_same(loaded, plan)
    q, k, v = torch.randn(3, 1, 4, plan.query_len, 16)
    assert torch.equal(attnloom.attention(q, k, v, loaded), attnloom.attention(q, k, v, plan))
    assert names(tmp_path) == ["plan"]


def test_file_says_what_it_is_of(tmp_path: Path) -> None:
    pattern = attnloom.load("longformer", reach=8)
    pattern.compile(100).save(tmp_path / "plan")
    found = Plan.load(tmp_path / "plan").description
    assert found["pattern"] == "longformer"
    assert found["params"] == {"reach": 8, "cls": "0"}
    again = attnloom.parse(str(found["text"]), **found["params"])  # type: ignore[arg-type]
    assert np.array_equal(again.mask(100), pattern.mask(100))


def test_batch_of_inputs_is_kept(tmp_path: Path) -> None:
    pattern = attnloom.parse("pattern p { input doc: segments; only causal; same(doc) }")
    plan = pattern.compile(40, heads=2, inputs={"doc": np.arange(80).reshape(2, 40) // 7})
    plan.save(tmp_path / "plan")
    loaded = Plan.load(tmp_path / "plan")
    assert loaded.batch_size == 2
    assert torch.equal(loaded.to_dense(), plan.to_dense())


# --- stacks --------------------------------------------------------------------------------------


def test_equal_layers_share_a_plan_and_equal_heads_a_layout(tmp_path: Path) -> None:
    stack = attnloom.load("gemma3").compile_layers(4096, 26, heads=4)
    assert (len(stack), len(stack.plans), len(stack.layouts)) == (26, 2, 2)
    for layer in range(26):
        assert stack[layer] is stack.plans[layer % 6 == 5]
    assert [plan.description["layer"] for plan in stack.plans] == [0, 5]
    stack.save(tmp_path / "stack")
    loaded = PlanStack.load(tmp_path / "stack")
    assert loaded.plan_of_layer == stack.plan_of_layer
    assert len(loaded.layouts) == 2
    for one, other in zip(loaded, stack, strict=True):
        assert_same(one, other)
    with pytest.raises(PlanFileError, match=r"26 layers; use PlanStack\.load"):
        Plan.load(tmp_path / "stack")


def test_layers_have_the_plans_that_they_would_have_alone() -> None:
    text = (
        "pattern p { when layer % 3 == head { full } else { window(last=4) }; "
        "random(links=1, per_layer=true) }"
    )
    pattern = attnloom.parse(text)
    stack = pattern.compile_layers(60, 5, heads=3, block=16)
    for layer, plan in enumerate(stack):
        alone = pattern.compile(60, heads=3, layer=layer, layers=5, block=16)
        assert torch.equal(plan.to_dense(), alone.to_dense())
        assert plan.description == alone.description


def test_pattern_without_layers_has_one_plan() -> None:
    stack = attnloom.load("bigbird").compile_layers(512, 12, heads=2)
    assert (len(stack), len(stack.plans)) == (12, 1)
    assert stack[-1] is stack[0]
    assert len(stack[3:5]) == 2


# --- files that must be refused ------------------------------------------------------------------


@pytest.fixture
def file(tmp_path: Path) -> Path:
    plan_of("packed").save(tmp_path / "plan")
    return tmp_path / "plan"


def tampered(path: Path, change: Callable[[dict[str, Any], dict[str, np.ndarray]], None]) -> None:
    """Write the file anew with a change, and with the digest that belongs to it."""
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as opened:
        facts = json.loads(opened.metadata()["attnloom"])
    arrays = load_file(path)
    change(facts, arrays)
    text = json.dumps(facts)
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    save_file(arrays, path, {"attnloom": text, "digest": _digest(text, arrays)})


def test_missing_file_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Plan.load(tmp_path / "nothing")


def test_newer_version_is_named(file: Path) -> None:
    tampered(file, lambda facts, _: facts.update(format=FORMAT + 1, version="9.1"))
    with pytest.raises(PlanFileError, match=r"written by attnloom 9\.1.*upgrade attnloom"):
        Plan.load(file)


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_flipped_bit_and_any_cut_is_refused(data: st.DataObject, file: Path) -> None:
    whole = file.read_bytes()
    damaged = bytearray(whole)
    if data.draw(st.booleans()):
        damaged = damaged[: data.draw(st.integers(0, len(whole) - 1))]
    else:
        at = data.draw(st.integers(0, len(whole) * 8 - 1))
        damaged[at // 8] ^= 1 << at % 8
    other = file.with_name("damaged")
    other.write_bytes(damaged)
    try:
        loaded = Plan.load(other)
    except PlanFileError:
        return
    # White space in the header may change; then nothing else has.
    assert_same(loaded, Plan.load(file))


NAME = "layouts.0.parts.0"
HOSTILE: dict[str, Callable[[dict[str, Any], dict[str, np.ndarray]], None]] = {
    "column beyond": lambda f, a: a[f"{NAME}.forward.columns"].__setitem__(0, 1 << 30),
    "column of no list": lambda f, a: a[f"{NAME}.transposed.columns"].__setitem__(0, -(1 << 30)),
    "mask beyond": lambda f, a: a[f"{NAME}.forward.mask_ids"].__setitem__(0, 1 << 20),
    "mask below full": lambda f, a: a[f"{NAME}.forward.mask_ids"].__setitem__(0, -2),
    "gathered beyond": lambda f, a: a[f"{NAME}.forward.gathered"].__setitem__((0, 0), 200),
    "offsets beyond": lambda f, a: a[f"{NAME}.forward.row_offsets"].__setitem__(-1, 1 << 40),
    "offsets fall": lambda f, a: a[f"{NAME}.forward.row_offsets"].__setitem__(1, 1 << 40),
    "item beyond": lambda f, a: a[f"{NAME}.forward.items"].__setitem__((0, 2), 1 << 30),
    "item of no row": lambda f, a: a[f"{NAME}.forward.items"].__setitem__((0, 0), 1 << 30),
    "slot beyond": lambda f, a: a[f"{NAME}.transposed.items"].__setitem__((0, 3), 1 << 30),
    "head of no layout": lambda f, a: a["layout_of_head"].__setitem__((0, 0, 0), 7),
    "head below 0": lambda f, a: a["layout_of_head"].__setitem__((0, 0, 0), -1),
    "other type": lambda f, a: a.update(
        {f"{NAME}.forward.columns": a[f"{NAME}.forward.columns"].astype(np.int64)}
    ),
    "other shape": lambda f, a: a.update({f"{NAME}.forward.items": np.zeros((3, 3), np.int32)}),
    "no dimensions": lambda f, a: a.update({f"{NAME}.forward.columns": np.array(1, np.int32)}),
    "missing array": lambda f, a: a.__delitem__(f"{NAME}.forward.masks") or None,
    "strange array": lambda f, a: a.update({"strange": np.zeros(1)}),
    "order too short": lambda f, a: a.update({f"{NAME}.order": np.zeros(3, np.int32)}),
    "order repeats": lambda f, a: a.update({f"{NAME}.order": np.zeros(200, np.int32)}),
    "longer": lambda f, a: f.update(sizes=[1 << 40, 1 << 40, 32, 16]),
    "length below 1": lambda f, a: f.update(sizes=[0, 200, 32, 16]),
    "length of another kind": lambda f, a: f.update(sizes=["200", 200, 32, 16]),
    "no tiles": lambda f, a: f.update(sizes=[200, 200, 0, 16]),
    "memory beyond": lambda f, a: f.update(memory=201),
    "no layouts": lambda f, a: f.update(layouts=[]),
    "no parts": lambda f, a: f.update(layouts=[[]]),
    "parts of another kind": lambda f, a: f.update(layouts=[[3]]),
    "plan of no layer": lambda f, a: f.update(plan_of_layer=[1]),
    "no layers": lambda f, a: f.update(plan_of_layer=[]),
    "format of another kind": lambda f, a: f.update(format="1"),
    "older": lambda f, a: f.update(format=0),
    "description of another kind": lambda f, a: f.update(description=[]),
    "counts of another kind": lambda f, a: f["layouts"][0][0].update(blocks=[1, 2]),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_numbers_are_refused_before_anything_runs(name: str, file: Path) -> None:
    Plan.load(file)
    tampered(file, HOSTILE[name])
    with pytest.raises(PlanFileError, match="cannot take a plan from"):
        Plan.load(file)


def test_hostile_order_is_refused(tmp_path: Path) -> None:
    plan_of("orders").save(tmp_path / "plan")
    key = next(name for name in load_file(tmp_path / "plan") if name.endswith("order"))
    for value in (-2, 1 << 20, 0):

        def change(_: object, arrays: dict[str, np.ndarray], value: int = value) -> None:
            arrays[key][arrays[key] == 7] = value

        plan_of("orders").save(tmp_path / "plan")
        tampered(tmp_path / "plan", change)
        with pytest.raises(PlanFileError):
            Plan.load(tmp_path / "plan")


@pytest.mark.parametrize(
    "content",
    [b"", b"pattern p { full }", struct.pack("<Q", 1 << 62) + b"{}", struct.pack("<Q", 2) + b"{}"],
)
def test_what_is_no_plan_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(PlanFileError):
        Plan.load(tmp_path / "file")


def test_other_tensors_and_deep_metadata_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    save_file({"weight": np.zeros(3)}, path)
    with pytest.raises(PlanFileError, match="not a plan"):
        Plan.load(path)
    for text in ("[" * 100_000, "3", "{", '{"format": true}'):
        save_file({"weight": np.zeros(3)}, path, {"attnloom": text, "digest": ""})
        with pytest.raises(PlanFileError, match="damaged"):
            Plan.load(path)


def test_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan_of("window").save(tmp_path / "plan")
    before = (tmp_path / "plan").read_bytes()
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        plan_of("random").save(tmp_path / "plan")
    assert (tmp_path / "plan").read_bytes() == before
    assert names(tmp_path) == ["plan"]


# --- the cache -----------------------------------------------------------------------------------


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Notes the compilations that really happen."""
    from attnloom.compiler import planning

    done: list[int] = []
    real = planning.compile_region
    monkeypatch.setattr(
        planning, "compile_region", lambda *a, **k: (done.append(1), real(*a, **k))[1]
    )
    return done


def test_equal_relations_are_compiled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = counted(monkeypatch)
    one = attnloom.parse("pattern a(r = 3) { window(each_side=r) }")
    other = attnloom.parse("# the same\npattern b { let r = 3; window(each_side=r) }")
    first = one.compile(100, cache=tmp_path)
    second = other.compile(100, cache=tmp_path)
    assert len(done) == 1
    assert torch.equal(first.to_dense(), second.to_dense())
    assert (first.description["pattern"], second.description["pattern"]) == ("a", "b")
    for more in ({"block": 64}, {"heads": 2}, {"without": ("pack",)}):
        one.compile(100, cache=tmp_path, **more)  # type: ignore[arg-type]
    one.compile(101, cache=tmp_path)
    one.with_params(r=4).compile(100, cache=tmp_path)
    assert len(done) == 6
    assert len(names(tmp_path)) == 6


def test_stack_is_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = counted(monkeypatch)
    pattern = attnloom.load("gemma3", recent=8)
    for _ in range(2):
        stack = pattern.compile_layers(50, 7, cache=tmp_path)
        assert len(done) == 2
        assert (len(stack), len(stack.plans)) == (7, 2)
        assert [plan.description["layer"] for plan in stack.plans] == [0, 5]


@pytest.mark.parametrize("content", [b"", b"junk", None])
def test_damaged_file_is_compiled_again(content: bytes | None, tmp_path: Path) -> None:
    pattern = attnloom.load("longformer", reach=4)
    wanted = pattern.compile(100, cache=tmp_path)
    (kept,) = tmp_path.iterdir()
    good = kept.read_bytes()
    kept.write_bytes(good[:-1] if content is None else content)
    assert_same(pattern.compile(100, cache=tmp_path), wanted)
    assert_same(Plan.load(kept), wanted)


def test_file_under_another_name_is_not_taken(tmp_path: Path) -> None:
    one, other = attnloom.load("longformer", reach=4), attnloom.load("longformer", reach=5)
    one.compile(100, cache=tmp_path)
    (first,) = tmp_path.iterdir()
    content = first.read_bytes()
    wanted = other.compile(100, cache=tmp_path)
    (second,) = (path for path in tmp_path.iterdir() if path != first)
    second.write_bytes(content)
    assert_same(other.compile(100, cache=tmp_path), wanted)


def test_least_recently_used_go_first(tmp_path: Path) -> None:
    stack = attnloom.load("mistral").compile_layers(100, 1)
    cache = PlanCache(tmp_path)
    for number in range(4):
        cache.put(f"{number:064x}", stack)
        os.utime(cache.path(f"{number:064x}"), (number, number))
    assert cache.get(f"{0:064x}", "cpu", {}) is not None  # used now
    size = cache.path(f"{0:064x}").stat().st_size
    PlanCache(tmp_path, most_bytes=3 * size).put(f"{4:064x}", stack)
    kept = [number for number in range(5) if cache.path(f"{number:064x}").exists()]
    assert kept == [0, 3, 4]


def test_folder_that_cannot_be_used_only_warns(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.warns(UserWarning, match="cannot write the plan"):
        plan = attnloom.load("mistral").compile(64, cache=tmp_path / "file" / "sub")
    assert plan.num_tiles


def test_user_folder_follows_xdg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert plan_cache.user_folder() == tmp_path / "attnloom" / "plans"
    attnloom.load("mistral").compile(64, cache=True)
    assert len(list((tmp_path / "attnloom" / "plans").iterdir())) == 1
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert plan_cache.user_folder() == Path.home() / ".cache" / "attnloom" / "plans"


def test_cache_of_another_type_is_refused() -> None:
    with pytest.raises(TypeError, match="cache must be True, False or a folder, got int"):
        attnloom.load("mistral").compile(64, cache=3)  # type: ignore[arg-type]


def _use(folder: Path, seed: int) -> None:
    """Compile, read and damage, over and over."""
    warnings.simplefilter("error")
    chance = np.random.default_rng(seed)
    for _ in range(12):
        reach = int(chance.integers(1, 4))
        pattern = attnloom.load("longformer", reach=reach)
        plan = pattern.compile(100, cache=folder)
        assert plan.reads == pattern.reads(100)
        files = [path for path in folder.iterdir() if path.name[0] != "."]
        if files and chance.random() < 0.3:
            with files[0].open("r+b") as file:
                file.write(b"junk")
    sys.exit(0)


def test_processes_share_a_folder(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    users = [context.Process(target=_use, args=(tmp_path, seed)) for seed in range(3)]
    for user in users:
        user.start()
    for user in users:
        user.join(120)
    assert [user.exitcode for user in users] == [0, 0, 0]
