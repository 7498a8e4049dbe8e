"""From a file, a text, or the name of a bundled pattern to typed patterns; `use` is followed here.

A quoted `use` names a file relative to the file that it stands in, inside the folder of that file;
an unquoted one names a bundled pattern. Whatever else lies on the disk is out of reach.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path, PurePosixPath

from attnloom.compiler import typed
from attnloom.compiler.elaborate import elaborate
from attnloom.compiler.evaluate import too_much
from attnloom.compiler.problems import PatternError, Place, Problem, diagnostic
from attnloom.grammar import parse, read, syntax

_MAX_FILES = 100


@cache
def bundled() -> tuple[str, ...]:
    """The names of the bundled patterns, in alphabetical order."""
    found = files("attnloom.patterns").iterdir()
    return tuple(sorted(one.name[:-5] for one in found if one.name.endswith(".attn")))


def load_text(text: str, name: str = "<text>") -> typed.Program:
    """The patterns of a text, which has no folder from which to use files.

    Raises:
        PatternError: the text is wrong.
    """
    return elaborate(parse(text, name), _Uses().use)


def load_file(path: Path) -> typed.Program:
    """The patterns of a file.

    Raises:
        PatternError: the file, or one that it uses, cannot be read or is wrong.
    """
    return _Uses().elaborated(path)


@cache
def load_bundled(name: str) -> typed.Program:
    """The patterns of a bundled file.

    Raises:
        KeyError: there is none of that name.
    """
    if name not in bundled():
        raise KeyError(name)
    text = files("attnloom.patterns").joinpath(f"{name}.attn").read_text(encoding="utf-8")
    return elaborate(parse(text, f"{name}.attn"), _Uses().use)


class _Uses:
    """Follows the `use` lines of a file and of those it uses, each file once."""

    def __init__(self) -> None:
        self._open: list[Path] = []
        self._found: dict[Path, typed.Program] = {}

    def elaborated(self, path: Path) -> typed.Program:
        real = path.resolve()
        if real not in self._found:
            self._open.append(real)
            try:
                self._found[real] = elaborate(read(path), self.use)
            finally:
                self._open.pop()
        return self._found[real]

    def use(self, one: syntax.Use, file: syntax.File) -> Mapping[str, typed.Pattern]:
        """The patterns that a `use` makes callable.

        Raises:
            Problem: the `use` is wrong.
            PatternError: the used file is.
        """
        place = Place(file.source, one.span)
        if not one.quoted:
            return self._bundled(one.target, place)
        if not self._open:
            message = f'`use "{one.target}"` needs a folder to look in, and this text is no file'
            raise Problem(
                diagnostic(
                    "use-needs-file",
                    place,
                    message,
                    "which folder?",
                    hints=["save the text in a file, such as `pattern.attn`"],
                    found=one.target,
                    expected=["a bundled pattern, without quotes"],
                )
            )
        path = self._inside(one.target, place)
        real = path.resolve()
        if real in self._open:
            names = [opened.name for opened in self._open[self._open.index(real) :]]
            circle = " -> ".join([*names, real.name])
            message = f"`{one.target}` uses this file, so they use each other"
            hints = ["what both need in a third file, and there `use` of neither"]
            raise Problem(
                diagnostic(
                    "use-cycle", place, message, circle,
                    hints=hints, found=one.target, expected=["a file that does not use this one"],
                )
            )  # fmt: skip
        if len(self._found) + len(self._open) >= _MAX_FILES:
            raise Problem(too_much(place, f"at most {_MAX_FILES} files may be used together"))
        return self.elaborated(path).patterns

    def _bundled(self, name: str, place: Place) -> Mapping[str, typed.Pattern]:
        if name not in bundled():
            near = difflib.get_close_matches(name, bundled(), n=2)
            hints = [f"`use {other}`" for other in near] or [f'`use "{name}.attn"` for a file']
            message = f"no bundled pattern is called `{name}`"
            raise Problem(
                diagnostic(
                    "use-not-found", place, message, "not there",
                    hints=hints, found=name, expected=bundled(),
                )
            )  # fmt: skip
        return load_bundled(name).patterns

    def _inside(self, target: str, place: Place) -> Path:
        """The file that a `use` names, if it lies in the folder of the file that uses it."""
        folder = self._open[-1].parent
        escapes = (
            PurePosixPath(target).is_absolute()
            or "\\" in target
            or ":" in target
            or ".." in PurePosixPath(target).parts
        )
        path = folder / target
        if escapes or not path.resolve().is_relative_to(folder):
            message = f'`use "{target}"` leads out of the folder of this file'
            raise Problem(
                diagnostic(
                    "use-escapes",
                    place,
                    message,
                    "not inside of the folder",
                    hints=[f'`use "{PurePosixPath(target).name}"`, with the file beside this one'],
                    found=target,
                    expected=["a file in this folder, or below"],
                )
            )
        if not path.is_file():
            near = difflib.get_close_matches(
                target, [one.name for one in folder.glob("*.attn")], n=2
            )
            hints = [f'`use "{other}"`' for other in near]
            if target.removesuffix(".attn") in bundled():
                hints.append(f"`use {target.removesuffix('.attn')}` for the bundled pattern")
            message = f"there is no file `{target}` beside this one"
            hints = hints or [
                f'`use "{other.name}"`' for other in sorted(folder.glob("*.attn"))[:3]
            ]
            raise Problem(
                diagnostic(
                    "use-not-found", place, message, "not there",
                    hints=hints, found=target, expected=["a file in this folder, or below"],
                )
            )  # fmt: skip
        return path


__all__ = ["PatternError", "bundled", "load_bundled", "load_file", "load_text"]
