"""From a path to a tree: whatever the path names, the answer is a tree or a `PatternError`."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from attnloom.grammar import Diagnostic, PatternError, parse, read
from attnloom.grammar.limits import MAX_BYTES

GOOD = "pattern p { full }\n"


def refused(path: str | Path) -> Diagnostic:
    with pytest.raises(PatternError) as caught:
        read(path)
    (found,) = caught.value.diagnostics
    assert found.source.name == str(path)
    assert found.hints
    assert found.expected
    return found


def test_file_is_read_and_named_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "p.attn"
    path.write_text(GOOD, encoding="utf-8")
    assert read(path) == parse(GOOD)
    assert read(path).source.name == str(path)
    assert read(str(path)) == parse(GOOD)


@pytest.mark.parametrize(
    "data", [b"\xef\xbb\xbf" + GOOD.encode(), GOOD.replace("\n", "\r\n").encode()]
)
def test_byte_order_mark_and_line_ends_of_windows_are_fine(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "p.attn"
    path.write_bytes(data)
    assert read(path) == parse(GOOD)


def test_missing_file_cannot_be_read(tmp_path: Path) -> None:
    found = refused(tmp_path / "missing.attn")
    assert (found.slug, found.found) == ("cannot-read", "no file")


def test_name_of_a_file_nearby_is_suggested(tmp_path: Path) -> None:
    (tmp_path / "longformer.attn").touch()
    found = refused(tmp_path / "lonformer.attn")
    assert found.hints == ("did you mean `longformer.attn`?",)


def test_folder_cannot_be_read(tmp_path: Path) -> None:
    assert refused(tmp_path).found == "a folder"
    assert refused("").slug == "cannot-read"


def test_file_below_a_file_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "p.attn").write_text(GOOD)
    assert refused(tmp_path / "p.attn" / "q.attn").slug == "cannot-read"


@pytest.mark.parametrize("path", ["\0", "a\0b.attn", "x" * 5000, "\udcff", "\ud800.attn"])
def test_path_that_no_file_can_have_cannot_be_read(path: str) -> None:
    assert refused(path).slug == "cannot-read"
    assert "\ud800" not in str(PatternError([refused(path)]))


def test_file_that_may_not_be_read_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "p.attn"
    path.write_text(GOOD)

    def forbidden(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", forbidden)
    found = refused(path)
    assert (found.slug, found.found) == ("cannot-read", "no permission")
    assert "chmod" in found.hints[0]


def test_file_that_fails_to_be_read_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "p.attn"
    path.write_text(GOOD)

    def broken(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "open", broken)
    assert "Input/output error" in refused(path).message


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_pipe_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "pipe.attn"
    os.mkfifo(path)
    assert refused(path).found == "a device or a pipe"


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="needs /dev")
def test_device_without_end_is_not_read() -> None:
    assert refused("/dev/zero").found == "a device or a pipe"


def test_link_to_itself_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "loop.attn"
    try:
        path.symlink_to(path)
    except OSError:
        pytest.skip("needs symbolic links")
    assert refused(path).slug == "cannot-read"


@pytest.mark.parametrize(
    ("data", "line", "column"),
    [
        (b"\xff", 1, 1),
        (b"pattern p {\n    # \xe9t\xe9\n}", 2, 7),
        ("é".encode() + b"\n\xc3", 2, 1),
        (GOOD.encode("utf-16"), 1, 1),
        (GOOD.encode("utf-32"), 1, 1),
        (b"\xed\xa0\x80", 1, 1),
        (bytes(range(256)), 3, 0x80 - 0x0E + 1),
    ],
)
def test_what_is_no_utf8_is_no_text(tmp_path: Path, data: bytes, line: int, column: int) -> None:
    path = tmp_path / "p.attn"
    path.write_bytes(data)
    found = refused(path)
    assert found.slug == "not-text"
    assert found.source.location(found.span.start) == (line, column)
    assert found.source.slice(found.span).startswith("\\x")


def test_utf16_is_recognised(tmp_path: Path) -> None:
    path = tmp_path / "p.attn"
    path.write_bytes(GOOD.encode("utf-16"))
    assert "UTF-16" in refused(path).message


def test_file_of_fifty_megabytes_is_refused_within_a_second(tmp_path: Path) -> None:
    path = tmp_path / "p.attn"
    with path.open("wb") as file:
        file.truncate(50_000_000)
    start = time.perf_counter()
    found = refused(path)
    assert time.perf_counter() - start < 1
    assert (found.slug, found.found) == ("too-large", "50,000,000 bytes")


def test_limit_of_size_counts_bytes(tmp_path: Path) -> None:
    path = tmp_path / "p.attn"
    fits = GOOD.encode() + b"#" * (MAX_BYTES - len(GOOD))
    path.write_bytes(fits)
    assert read(path) == parse(GOOD)
    path.write_bytes(fits + b"#")
    assert refused(path).slug == "too-large"
    wide = GOOD + "#" + "é" * (MAX_BYTES // 2)
    assert len(wide) < MAX_BYTES
    with pytest.raises(PatternError) as caught:
        parse(wide)
    assert caught.value.diagnostics[0].slug == "too-large"


def test_file_that_grows_while_it_is_read_is_still_limited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "p.attn"
    path.write_bytes(b"#" * (MAX_BYTES + 1))
    small = os.stat_result((0o100644, 0, 0, 1, 0, 0, 10, 0, 0, 0))
    monkeypatch.setattr("attnloom.grammar.reading.os.stat", lambda _: small)
    assert refused(path).slug == "too-large"
