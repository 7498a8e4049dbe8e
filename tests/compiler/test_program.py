"""Files that use each other, and what a pattern file may ask for at most."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

import attnloom
from attnloom import PatternError, load, parse
from attnloom.compiler.program import bundled, load_bundled


@pytest.fixture
def write(tmp_path: Path):
    def call(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return call


def slugs(error: pytest.ExceptionInfo[PatternError]) -> list[str]:
    return [one.slug for one in error.value.diagnostics]


def test_used_file_makes_its_patterns_callable(write) -> None:
    write("parts/near.attn", "pattern near_by(r = 1) { window(each_side=r) }\npattern own { self }")
    path = write("main.attn", 'use "parts/near.attn"\npattern p { near_by(2) | own }')
    assert load(path).reads(10) == 44


def test_use_is_relative_to_the_file_that_says_it(write) -> None:
    write("a/b/c.attn", "pattern c { self }")
    write("a/mid.attn", 'use "b/c.attn"\npattern mid { c }')
    assert load(write("top.attn", 'use "a/mid.attn"\npattern p { mid }')).reads(5) == 5


def test_used_patterns_are_not_passed_on(write) -> None:
    write("c.attn", "pattern c { self }")
    write("mid.attn", 'use "c.attn"\npattern mid { c }')
    with pytest.raises(PatternError) as error:
        load(write("top.attn", 'use "mid.attn"\npattern p { c }'))
    assert slugs(error) == ["unknown-name"]


def test_file_used_twice_is_one_file(write) -> None:
    write("c.attn", "pattern c { self }")
    write("a.attn", 'use "c.attn"\npattern a { c }')
    assert load(write("top.attn", 'use "a.attn"\nuse "c.attn"\npattern p { a | c }')).reads(3) == 3


def test_bundled_pattern_can_be_used_anywhere(write) -> None:
    text = "use longformer\nuse mistral\npattern p { longformer(reach=1) & mistral(recent=2) }"
    wanted = load("longformer", reach=1).mask(20) & load("mistral", recent=2).mask(20)
    for pattern in (parse(text), load(write("p.attn", text))):
        assert (pattern.mask(20) == wanted).all()


def test_mistake_in_a_used_file_is_shown_there(write) -> None:
    write("wrong.attn", "pattern wrong {\n    windw(last=1)\n}")
    with pytest.raises(PatternError) as error:
        load(write("top.attn", 'use "wrong.attn"\npattern p { wrong }'))
    (found,) = error.value.diagnostics
    assert Path(found.source.name).name == "wrong.attn"
    assert found.source.location(found.span.start) == (2, 5)


@pytest.mark.parametrize(
    "target",
    ["../up.attn", "/etc/hostname", "a/../../up.attn", "C:/x.attn", "a\\b.attn", "~/x.attn"],
)
def test_use_stays_in_the_folder(write, target: str) -> None:
    write("up.attn", "pattern up { self }")
    path = write("inner/p.attn", f'use "{target}"\npattern p {{ full }}')
    with pytest.raises(PatternError) as error:
        load(path)
    assert slugs(error) == ["use-not-found" if target.startswith("~") else "use-escapes"]


def test_link_out_of_the_folder_is_not_followed(write, tmp_path: Path) -> None:
    outside = write("secret.attn", "pattern secret { self }")
    path = write("inner/p.attn", 'use "link.attn"\npattern p { secret }')
    (tmp_path / "inner" / "link.attn").symlink_to(outside)
    with pytest.raises(PatternError) as error:
        load(path)
    assert slugs(error) == ["use-escapes"]


def test_files_in_a_circle_are_refused(write) -> None:
    write("a.attn", 'use "b.attn"\npattern a { b }')
    path = write("b.attn", 'use "a.attn"\npattern b { a }')
    with pytest.raises(PatternError) as error:
        load(path)
    assert slugs(error) == ["use-cycle"]


def test_quoted_use_needs_a_file() -> None:
    with pytest.raises(PatternError) as error:
        parse('use "x.attn"\npattern p { full }')
    assert slugs(error) == ["use-needs-file"]


def test_too_many_files_are_refused(write) -> None:
    write("f0.attn", "pattern f0 { self }")
    for k in range(1, 120):
        write(f"f{k}.attn", f'use "f{k - 1}.attn"\npattern f{k} {{ f{k - 1} }}')
    with pytest.raises(PatternError) as error:
        load(write("top.attn", 'use "f119.attn"\npattern p { f119 }'))
    assert slugs(error) == ["too-much-work"]


def test_bundled_programs_are_read_once() -> None:
    assert load_bundled("longformer") is load_bundled("longformer")
    assert set(bundled()) == set(attnloom.bundled())


DOUBLING = "let a0 = self\n" + "\n".join(
    f"let a{k} = a{k - 1} | (a{k - 1} & causal)" for k in range(1, 64)
)
CALLS = "pattern p0 { self }\n" + "\n".join(
    f"pattern p{k} {{ p{k - 1} | transpose(p{k - 1}) }}" for k in range(1, 64)
)
NUMBERS = "let a0 = 1\n" + "\n".join(f"let a{k} = a{k - 1} * a{k - 1} + n" for k in range(1, 64))


@pytest.mark.parametrize(
    ("text", "slug"),
    [
        (f"pattern p {{\n{DOUBLING}\na63\n}}", "too-much-work"),
        (CALLS, "too-much-work"),
        (f"pattern p {{\n{NUMBERS}\nwindow(last=a63)\n}}", "too-much-work"),
        ("pattern p { window(last=2**10**10) }", "number-too-large"),
        ("pattern p { window(last=9**9**9**9) }", "number-too-large"),
        ("pattern p { window(last=(n * 2**40) * 2**40) }", "number-too-large"),
        ("pattern p { where(i ** j < 5) }", "number-too-large"),
        ("pattern p { random(links=1000000) }", "too-much-work"),
        ("pattern p { offsets([0..1000000]) }", "too-much-work"),
        ("pattern p { where((i - j) % 100000 < 50000 and i * j % 7 == 3) }", "too-much-work"),
        ("pattern p { memory(2**39); full }", "too-much-work"),
    ],
)
def test_endless_work_is_refused_at_once(text: str, slug: str) -> None:
    start = time.process_time()
    with pytest.raises(PatternError) as error:
        parse(text).mask(1 << 17)
    assert slug in slugs(error)
    assert time.process_time() - start < 2


def test_lets_nest_only_so_deep() -> None:
    chain = "let a0 = self\n" + "\n".join(f"let a{k} = ~a{k - 1}" for k in range(1, 300))
    with pytest.raises(PatternError) as error:
        parse(f"pattern p {{\n{chain}\na299\n}}")
    assert "too-deep" in slugs(error)
    shallow = "let a0 = self\n" + "\n".join(f"let a{k} = ~a{k - 1}" for k in range(1, 90))
    assert parse(f"pattern p {{\n{shallow}\na88\n}}").reads(9) == 9


def test_pattern_calls_nest_only_so_deep() -> None:
    chain = "pattern p0 { self }\n" + "\n".join(
        f"pattern p{k} {{ p{k - 1} }}" for k in range(1, 400)
    )
    with pytest.raises(PatternError) as error:
        parse(chain)
    assert "too-deep" in slugs(error)


def test_every_mistake_is_reported_at_once() -> None:
    text = """pattern a(x: float, n = 3) { windw(last=1) | global(cls); only chunks() }
pattern b { expect hop < 2; when head { full }; let w = w; a(y=2) }"""
    with pytest.raises(PatternError) as error:
        parse(text)
    assert set(slugs(error)) == {
        "unknown-kind", "name-taken", "unknown-name", "bad-argument", "unknown-metric",
        "wrong-type", "let-cycle",
    }  # fmt: skip
