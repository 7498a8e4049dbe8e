"""From a path to text: a file is measured before it is read, and only files are opened."""

from __future__ import annotations

import os
import shlex
import stat
from itertools import islice
from pathlib import Path

from attnloom.grammar.diagnostics import Diagnostic, PatternError, did_you_mean
from attnloom.grammar.limits import MAX_BYTES, too_large
from attnloom.grammar.source import Source, Span

_MOST_NEIGHBOURS = 1000


def text_of(path: str | Path) -> str:
    """The text of a pattern file.

    Raises:
        PatternError: there is no such file, it may not be read, is too large or not UTF-8.
    """
    try:
        status = os.stat(path)  # noqa: PTH116 - Path("") would be the working folder
        if stat.S_ISDIR(status.st_mode):
            raise _is_a_folder(path)
        if not stat.S_ISREG(status.st_mode):
            raise _not_a_file(path)
        if status.st_size > MAX_BYTES:
            raise too_large(str(path), status.st_size)
        with Path(path).open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise _missing(path) from None
    except PermissionError:
        raise _forbidden(path) from None
    except (OSError, ValueError) as error:
        if isinstance(error, PatternError):
            raise
        raise _unreadable(path, error) from None
    if len(data) > MAX_BYTES:
        raise too_large(str(path))
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _not_text(str(path), data, error) from None


def _cannot_read(
    path: str | Path, message: str, found: str, hints: tuple[str, ...]
) -> PatternError:
    return PatternError(
        [
            Diagnostic(
                "cannot-read",
                message,
                "",
                Span(0, 0),
                Source(str(path), ""),
                hints=hints,
                found=found,
                expected=("a pattern file",),
            )
        ]
    )


def _missing(path: str | Path) -> PatternError:
    wanted = Path(path)
    near = did_you_mean(wanted.name, (other.name for other in _neighbours(wanted.parent)))
    hints = near or ("see which bundled patterns there are: `attnloom list`",)
    return _cannot_read(path, f"there is no file `{path}`", "no file", hints)


def _is_a_folder(path: str | Path) -> PatternError:
    inside = sorted(_neighbours(Path(path)))
    hints = (f"name a file in it: `{inside[0]}`",) if inside else ("name a file, not a folder",)
    return _cannot_read(path, f"`{path}` is a folder", "a folder", hints)


def _not_a_file(path: str | Path) -> PatternError:
    message = f"`{path}` is a device or a pipe, and only files are read"
    hints = ("save the pattern in a file, such as `pattern.attn`",)
    return _cannot_read(path, message, "a device or a pipe", hints)


def _forbidden(path: str | Path) -> PatternError:
    message = f"the file `{path}` may not be read by this user"
    hint = f"allow it: `chmod u+r {shlex.quote(str(path))}`"
    return _cannot_read(path, message, "no permission", (hint,))


def _unreadable(path: str | Path, error: OSError | ValueError) -> PatternError:
    reason = getattr(error, "strerror", None) or str(error)
    hints = ("check the path: see which bundled patterns there are with `attnloom list`",)
    return _cannot_read(path, f"the file cannot be read: {reason}", reason, hints)


def _neighbours(folder: Path) -> list[Path]:
    """Pattern files in a folder; a folder with very many files is not searched to its end."""
    try:
        return [
            path for path in islice(folder.iterdir(), _MOST_NEIGHBOURS) if path.suffix == ".attn"
        ]
    except OSError:
        return []


def _not_text(name: str, data: bytes, error: UnicodeDecodeError) -> PatternError:
    is_utf16 = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    encoding = "UTF-16" if is_utf16 else "LATIN1"
    bad = " ".join(f"0x{byte:02x}" for byte in data[error.start : error.end])
    start = len(data[: error.start].decode("utf-8"))
    source = Source(name, data.decode("utf-8", "backslashreplace"))
    return PatternError(
        [
            Diagnostic(
                "not-text",
                f"the file is {'UTF-16' if is_utf16 else 'not UTF-8'} text, "
                "and pattern files are UTF-8",
                f"{bad} is not UTF-8",
                Span(start, start + len(r"\xff") * (error.end - error.start)),
                source,
                hints=(f"convert it: `iconv -f {encoding} -t UTF-8 {shlex.quote(name)}`",),
                found=bad,
                expected=("UTF-8 text",),
            )
        ]
    )
