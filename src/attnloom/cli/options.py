"""The options that commands share, and how their values are read."""

from __future__ import annotations

import difflib
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import click

import attnloom
from attnloom import Pattern
from attnloom.grammar.limits import MAX_BYTES
from attnloom.grammar.reading import text_of
from attnloom.grammar.source import Source

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


@dataclass(frozen=True)
class Place:
    """Where a pattern is looked at: which head of how many, in which layer of how many."""

    head: int
    heads: int
    layer: int
    layers: int

    @property
    def bound(self) -> dict[str, int]:
        """The arguments of `Pattern.bind`."""
        return {
            "head": self.head,
            "heads": self.heads,
            "layer": self.layer,
            "layers": self.layers,
        }

    @property
    def all_heads(self) -> dict[str, Any]:
        """The arguments of `Pattern.layouts`, `Pattern.parts` and `Pattern.compile`."""
        return {"heads": self.heads, "layer": self.layer, "layers": self.layers}


file_argument = click.argument("file", metavar="FILE")
files_argument = click.argument("files", metavar="FILE...", nargs=-1, required=True)

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object on stdout, errors included."
)

set_option = click.option(
    "settings",
    "--set",
    metavar="NAME=VALUE",
    multiple=True,
    help="Set a parameter: a number, true or false, or a token set such as 'first 4'. Repeatable.",
)

input_option = click.option(
    "inputs",
    "--input",
    metavar="NAME=VALUE",
    multiple=True,
    help="Give a run-time input. tokens: a token set (question=0..16); segments: lengths or one "
    "id a token (doc=lengths:100,28 or doc=0,0,1); links: a list of keys for each query, in "
    "JSON or a file of it (picks=[[0],[0,1]] or picks=FILE.json). Repeatable.",
)


def length_option(default: int | None = None) -> Decorator:
    """`-n`: the number of tokens; required unless there is a `default`."""
    given: dict[str, Any] = {} if default is None else {"default": default}
    return click.option(
        "-n",
        "--length",
        type=click.IntRange(min=1),
        required=default is None,
        show_default=True,
        help="Number of tokens, memory tokens not counted.",
        **given,
    )


def stack(*decorators: Decorator) -> Decorator:
    """Several decorators as one, the first outermost."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


head_option = click.option(
    "--head", type=click.IntRange(min=0), default=0, show_default=True, help="Which head."
)


def heads_option(default: int | None = None) -> Decorator:
    """`--heads`: how many heads the layer has."""
    return click.option(
        "--heads",
        type=click.IntRange(min=1),
        default=default,
        show_default=default is not None,
        help="How many heads the layer has." + ("" if default else "  [default: head + 1]"),
    )


layer_options = stack(
    click.option(
        "--layer", type=click.IntRange(min=0), default=0, show_default=True, help="Which layer."
    ),
    click.option(
        "--layers",
        type=click.IntRange(min=1),
        default=None,
        help="How many layers the model has.  [default: layer + 1]",
    ),
)


def place(head: int, heads: int | None, layer: int, layers: int | None) -> Place:
    """Check head and layer against their numbers.

    Raises:
        click.UsageError: there is no such head or layer.
    """
    heads = head + 1 if heads is None else heads
    layers = layer + 1 if layers is None else layers
    if head >= heads:
        raise click.UsageError(f"--head {head} needs --heads {head + 1} or more, got {heads}")
    if layer >= layers:
        raise click.UsageError(f"--layer {layer} needs --layers {layer + 1} or more, got {layers}")
    return Place(head=head, heads=heads, layer=layer, layers=layers)


def load_pattern(file: str, settings: Sequence[str] = ()) -> Pattern:
    """The pattern that FILE names, with the parameters that were set.

    Raises:
        click.UsageError: there is no such file or bundled pattern.
        PatternError: the file is wrong.
    """
    parameters = read_settings(settings)
    if file == "-":
        return attnloom.parse(read_source(file).text, name="<stdin>", **parameters)
    if looks_like_path(file):
        existing_file(file)
        return attnloom.load(file, **parameters)
    names = attnloom.bundled()
    if file not in names:
        raise click.UsageError(
            f"no bundled pattern is called {file!r}.{did_you_mean(file, names)} "
            "`attnloom list` shows them all; the path of a file ends in .attn"
        )
    return attnloom.load(file, **parameters)


def read_source(file: str) -> Source:
    """The text that FILE names. Standard input is read once and then remembered.

    Raises:
        click.UsageError: there is no such file.
        PatternError: it cannot be read, is too large or not text.
    """
    if file == "-":
        memory = click.get_current_context().meta
        key = f"{__name__}.stdin"
        if key not in memory:
            memory[key] = read_stdin()
        return Source("<stdin>", memory[key])
    if looks_like_path(file):
        return Source(file, text_of(existing_file(file)))
    text = resources.files("attnloom.patterns").joinpath(f"{file}.attn").read_text(encoding="utf-8")
    return Source(f"{file}.attn", text)


def read_stdin() -> str:
    """Standard input, as far as it can be a pattern file."""
    return sys.stdin.read(MAX_BYTES + 1)


def looks_like_path(file: str) -> bool:
    """Whether FILE is meant as a path, not as the name of a bundled pattern."""
    return file.endswith(".attn") or "/" in file or "\\" in file


def existing_file(file: str) -> Path:
    """The path of a file that must exist.

    Raises:
        click.UsageError: it does not; files of a like name are suggested.
    """
    path = Path(file)
    if path.is_file():
        return path
    if path.is_dir():
        raise click.UsageError(f"{file!r} is a folder, not a pattern file")
    near = [str(other) for other in path.parent.glob("*.attn")] if path.parent.is_dir() else []
    raise click.UsageError(f"no such file: {file!r}.{did_you_mean(str(path), near)}")


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """A question to append to a message, or nothing.

    >>> did_you_mean("longfromer", ["longformer", "bert"])
    ' Did you mean longformer?'
    """
    near = difflib.get_close_matches(name, list(candidates), n=1, cutoff=0.6)
    return f" Did you mean {near[0]}?" if near else ""


def read_settings(settings: Sequence[str]) -> dict[str, int | bool | str]:
    """The values of `--set`: integers, booleans, and anything else as text.

    >>> read_settings(["reach=64", "wrap=true", "cls=first 2"])
    {'reach': 64, 'wrap': True, 'cls': 'first 2'}
    """
    return {name: _value(text) for name, text in _pairs("--set", settings)}


def read_inputs(pattern: Pattern, inputs: Sequence[str], length: int) -> dict[str, Any]:
    """The values of `--input`, each read as the kind that the pattern declares.

    Raises:
        click.UsageError: an input is missing, unknown, or not of its kind.
    """
    given = dict(_pairs("--input", inputs))
    for name in given:
        if name not in pattern.inputs:
            known = did_you_mean(name, pattern.inputs)
            raise click.UsageError(f"{pattern.name} has no input called {name!r}.{known}")
    missing = [name for name in pattern.inputs if name not in given]
    if missing:
        name = missing[0]
        kind = pattern.inputs[name]
        raise click.UsageError(
            f"{pattern.name} needs the {kind} input {name!r}: give --input {name}={_EXAMPLES[kind]}"
        )
    return {
        name: _READERS[pattern.inputs[name]](name, text, length) for name, text in given.items()
    }


_EXAMPLES = {"tokens": "0..16", "segments": "lengths:100,28", "links": "FILE.json"}


def _pairs(option: str, texts: Sequence[str]) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for text in texts:
        name, equals, value = text.partition("=")
        name, value = name.strip(), value.strip()
        if not (name and equals and value):
            raise click.UsageError(f"{option} wants NAME=VALUE, got {text!r}")
        if name in (other for other, _ in pairs):
            raise click.UsageError(f"{option} gives {name!r} twice")
        pairs.append((name, value))
    return pairs


def _value(text: str) -> int | bool | str:
    if text in ("true", "false"):
        return text == "true"
    try:
        return int(text)
    except ValueError:
        return text


def _tokens(_name: str, text: str, _length: int) -> str:
    """A token set in the language's own spelling; the pattern reads it."""
    return text


def _segments(name: str, text: str, length: int) -> list[int]:
    """`lengths:3,2`, `0,0,0,1,1` or `[0, 0, 0, 1, 1]`: one segment id for each token."""
    is_lengths = text.startswith("lengths:")
    listed = text[1:-1] if text[0] == "[" and text[-1] == "]" else text
    try:
        numbers = [int(part) for part in listed.removeprefix("lengths:").split(",")]
    except ValueError:
        raise click.UsageError(
            f"--input {name} wants integers between commas, got {text!r}"
        ) from None
    total = sum(numbers) if is_lengths else len(numbers)
    if total != length or (is_lengths and min(numbers) < 0):
        what = "lengths that add up to" if is_lengths else "one id for each of"
        raise click.UsageError(f"--input {name} wants {what} {length} tokens, got {total}")
    if not is_lengths:
        return numbers
    return [segment for segment, count in enumerate(numbers) for _ in range(count)]


def _links(name: str, text: str, length: int) -> list[list[int]]:
    """A list of keys for each query: JSON, or the path of a file of it."""
    try:
        is_inline = text.startswith("[")
        keys = json.loads(text if is_inline else Path(text).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise click.UsageError(f"--input {name}: cannot read {text!r}: {error}") from None
    is_lists = isinstance(keys, list) and all(
        isinstance(row, list) and all(type(key) is int for key in row) for row in keys
    )
    if not is_lists or len(keys) != length:
        raise click.UsageError(
            f"--input {name}: {text!r} must hold {length} lists of keys, one for each query"
        )
    return list(keys)


_READERS: dict[str, Callable[[str, str, int], Any]] = {
    "tokens": _tokens,
    "segments": _segments,
    "links": _links,
}
