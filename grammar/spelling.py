"""Single tokens that are wrong in themselves: names, numbers, texts in quotes, odd characters."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from fractions import Fraction
from math import ceil, floor

from lark import Token

from attnloom.grammar import foreign
from attnloom.grammar.diagnostics import Diagnostic
from attnloom.grammar.foreign import RESERVED, VALUES
from attnloom.grammar.lexer import span_of_token
from attnloom.grammar.limits import MAX_DIGITS
from attnloom.grammar.source import Span
from attnloom.grammar.spot import Spot
from attnloom.grammar.words import VARIABLES

_NUMBER = re.compile("[1-9](_?[0-9])*|0(_?0)*|0[xX](_?[0-9a-fA-F])+|0[oO](_?[0-7])+|0[bB](_?[01])+")
_FLOAT = r"([0-9][0-9_]*\.?[0-9_]*|\.[0-9_]+)([eE][+-]?[0-9]{1,2})?"
_LONG = 60
_BEFORE_STATEMENT = ("SEP", "LBRACE", "THEN")


def is_misspelt(tokens: Sequence[Token], at: int) -> bool:
    """Whether a name or number that fits the grammar is none of the language all the same."""
    token = tokens[at]
    if token.type == "NUMBER":
        return len(token) > MAX_DIGITS or not _NUMBER.fullmatch(token)
    if not token.isascii() or token in VALUES:
        return True
    # `if (...) { ... }` would be a call with a body.
    return (
        token in RESERVED
        and tokens[at + 1].type == "LPAR"
        and at > 0
        and tokens[at - 1].type in _BEFORE_STATEMENT
    )


# --- numbers -------------------------------------------------------------------------------------

_BASES = {
    "x": ("hexadecimal", "0123456789abcdef", "0x1f"),
    "o": ("octal", "01234567", "0o17"),
    "b": ("binary", "01", "0b101"),
}
_SUFFIXES = {"k": ("000", 1024), "m": ("000000", 1024**2)}


def number(spot: Spot) -> Diagnostic | None:
    """`1.5`, `1e6`, `0x1g`, `007`, `12ab`, or a number without end."""
    if spot.kind not in ("NUMBER", "FLOAT") or not _is_wrong(spot.token):
        return None
    text = str(spot.token)
    if len(text) > MAX_DIGITS:
        return spot.says(
            "number-too-long",
            f"a number has at most {MAX_DIGITS} digits, and this one has {len(text):,}",
            f"{len(text):,} digits",
            "write a power, such as `2 ** 62`",
            found=f"{len(text):,} digits",
        )
    if spot.kind == "FLOAT" or re.fullmatch("[0-9_]+[eE][0-9_]+", text):
        return _float(spot)
    if based := re.fullmatch("0([xXoObB])(.*)", text):
        return _with_base(spot, *_BASES[based[1].lower()], based[2].lower())
    digits = re.match("[0-9_]+", text)
    assert digits is not None
    plain = digits[0].strip("_").replace("__", "_")
    suffix = text[digits.end() :]
    if suffix:
        return _with_suffix(spot, plain, suffix)
    if text[0] == "0":
        message, ours = "a number does not start with `0`", plain.lstrip("0_") or "0"
        octal = f"for an octal number write `0o{ours}`" if set(ours) <= set("01234567_") else None
        return spot.says("bad-number", message, f"write `{ours}`", spot.replace(ours), octal)
    message = "a single `_` stands between two digits"
    ours = re.sub("__+", "_", text).strip("_")
    return spot.says("bad-number", message, f"write `{ours}`", spot.replace(ours))


def _is_wrong(token: Token) -> bool:
    return token.type == "FLOAT" or is_misspelt([token], 0)


def _float(spot: Spot) -> Diagnostic:
    exact = None
    if len(spot.token) <= 20 and re.fullmatch(_FLOAT, spot.token):
        exact = Fraction(spot.token.replace("_", ""))
    message = f"{spot.found} is not a whole number, and the language has no others"
    if exact is None or exact > 10**18:
        return spot.says("float-number", message, "write a whole number", "write digits only: `64`")
    if exact.denominator == 1:
        ours = str(exact)
        message = f"{spot.found} is not written as a whole number"
        return spot.says("float-number", message, f"write `{ours}`", spot.replace(ours))
    near = [str(floor(exact)), str(ceil(exact))]
    label = f"write `{near[0]}` or `{near[1]}`"
    part = "{} // " + str(exact.denominator)
    if exact.numerator != 1:
        part = f"{exact.numerator} * {part}"
    if spot.kinds(1, "STAR", "NAME"):
        whole = Span(spot.span.start, span_of_token(spot.near(2)).stop)
        label = "write a quotient"
        hints = [spot.rewrite((whole, part.format(spot.near(2))))]
    else:
        hints = [*map(spot.replace, near), f"a part of n is a quotient: `{part.format('n')}`"]
    return spot.says("float-number", message, label, *hints)


def _with_base(spot: Spot, kind: str, digits: str, example: str, rest: str) -> Diagnostic:
    wrong = next((char for char in rest if char not in digits and char != "_"), None)
    if wrong is None:
        message = f"{spot.found} has no digit, or a `_` that is not between two of them"
    else:
        message = f"`{wrong}` is no digit of the {kind} number {spot.found}"
    return spot.says("bad-number", message, f"not a {kind} number", f"write it like `{example}`")


def _with_suffix(spot: Spot, plain: str, suffix: str) -> Diagnostic:
    message = f"{spot.found} is neither a number nor a name"
    label = f"`{suffix}` follows a number"
    if suffix.lower() in _SUFFIXES:
        zeros, power = _SUFFIXES[suffix.lower()]
        hints = [spot.replace(plain + zeros), spot.replace(f"{plain} * {power}")]
        return spot.says("bad-number", message, label, *hints)
    hints = [spot.replace(plain)]
    if suffix in VARIABLES:
        hints.insert(0, spot.replace(f"{plain} * {suffix}"))
    return spot.says("bad-number", message, label, *hints)


# --- names and characters ------------------------------------------------------------------------

# Letters that look like ASCII ones, and signs that are meant for ours.
_LOOKALIKES = str.maketrans(
    "аеорсухіјѕԁһοικνρυχІАВЕКМНОРСТХΑΒΕΖΗΙΚΜΝΟΡΤΥΧ", "aeopcyxijsdhoikvpuxIABEKMHOPCTXABEZHIKMNOPTYX"
)
_CHARACTERS: dict[str, str] = {
    **dict.fromkeys("−–—‐‑", "-"),
    **dict.fromkeys("×⋅·∗", "*"),
    **dict.fromkeys("∣│¦", "|"),
    **dict.fromkeys("≤⩽", "<="),
    **dict.fromkeys("≥⩾", ">="),
    "÷": "//",
    "≠": "!=",
    "≡": "==",
    "∪": "|",
    "∩": "&",
    "∖": "-",
    "⊕": "^",
    "¬": "~",
    "∧": "and",
    "∨": "or",
    "∅": "none",
    "…": "..",
    "‥": "..",
    "、": ",",
    "。": ".",
    "√": "isqrt",
}
_QUOTES = "“”„‟«»‘’‚‛`"
_POWERS = {"²": "2", "³": "3", "¹": "1"}


def name(spot: Spot) -> Diagnostic | None:
    """A name with letters beyond ASCII, some of which look just like ours."""
    if spot.kind != "NAME" or spot.token.isascii():
        return None
    text = str(spot.token)
    odd = next(char for char in text if not char.isascii())
    at = spot.span.start + text.index(odd)
    message = f"names consist of the letters a-z and A-Z, digits and `_`; {_described(odd)} is none"
    ours = _in_ascii(text)
    if text[-1] in _POWERS and text[:-1].isascii():
        hint = spot.replace(f"{text[:-1]} ** {_POWERS[text[-1]]}")
    elif ours:
        hint = spot.replace(ours)
    else:
        hint = "choose a name such as `name_1`"
    return spot.says(
        "unknown-character",
        message,
        "not a letter of a name",
        hint,
        span=Span(at, at + 1),
    )


def character(spot: Spot) -> Diagnostic | None:
    """A character that no token of the language has."""
    if spot.kind != "UNKNOWN" or foreign.is_choice(spot):
        return None
    char = str(spot.token)
    kind = unicodedata.category(char)
    if kind in ("Cf", "Zs", "Mn"):
        return spot.says(
            "hidden-character",
            f"the character {_described(char)} looks like a blank or like nothing, and is neither",
            f"{_code_point(char)} here",
            spot.replace(" " if kind == "Zs" else ""),
            found=_code_point(char),
        )
    if char in _QUOTES:
        return _unknown(spot, "not a quotation mark", _cleaned(spot))
    if (ours := _meant(spot, char)) != char:
        return _unknown(spot, f"write `{ours}`", _cleaned(spot))
    if char == ".":
        return _dot(spot)
    if char == "$" and spot.near(1).type == "NAME":
        return _unknown(spot, "names stand without it", spot.replace(""))
    if char == "\\":
        hint = "a line goes on inside brackets, or after an operator such as `|`"
        return _unknown(spot, "not needed", hint)
    if char == "@":
        return _unknown(spot, "there are no decorators", "remove `@`")
    return _unknown(spot, "not a character of the language", spot.remove())


def _unknown(spot: Spot, label: str, *hints: str | None) -> Diagnostic:
    message = f"the language has no use for {_described(str(spot.token))}"
    return spot.says("unknown-character", message, label, *hints)


def _dot(spot: Spot) -> Diagnostic:
    """`module.name`: everything is called by its bare name."""
    owner = span_of_token(spot.before)
    hint = None
    if spot.before.type == "NAME" and spot.near(1).type == "NAME":
        hint = spot.rewrite((Span(owner.start, spot.span.stop), ""))
    return _unknown(spot, "names have no `.` in them", hint or "a range has two dots: `0..4`")


def _cleaned(spot: Spot) -> str | None:
    """The line with what is meant in place of every such character."""
    line = spot.line_of(spot.token)
    odd = (one for one in spot.tokens if one.type == "UNKNOWN" and spot.line_of(one) == line)
    return spot.rewrite(*((span_of_token(one), _meant(spot, str(one))) for one in odd))


def _meant(spot: Spot, char: str) -> str:
    """The sign of ours that a character stands for; itself if there is none."""
    if char in _QUOTES:
        return '"' if spot.head.type == "USE" else ""
    plain = _CHARACTERS.get(char) or unicodedata.normalize("NFKC", char)
    return plain if plain.isascii() else char


def _in_ascii(text: str) -> str | None:
    """The same name without accents and look-alikes; a Greek letter by its name."""
    plain = unicodedata.normalize("NFKD", text.translate(_LOOKALIKES))
    plain = "".join(_letter(char) for char in plain if not unicodedata.combining(char))
    return plain if plain.isascii() and plain.isidentifier() else None


def _letter(char: str) -> str:
    words = unicodedata.name(char, "").split()
    return words[-1].lower() if words[:1] == ["GREEK"] and "LETTER" in words else char


def _code_point(char: str) -> str:
    return f"U+{ord(char):04X}"


def _described(char: str) -> str:
    """A character with its number and name where it might be mistaken for another."""
    if char == "`":
        return "the backtick"
    if char.isascii():
        return f"`{char}`"
    title = unicodedata.name(char, "").lower()
    if not char.isprintable() or unicodedata.combining(char):
        return f"{_code_point(char)} ({title})" if title else _code_point(char)
    return f"`{char}` ({_code_point(char)}{', ' if title else ''}{title})"


# --- text in quotes ------------------------------------------------------------------------------


def string(spot: Spot) -> Diagnostic | None:
    """A text that is not closed, in the wrong quotes, or where none can stand."""
    if spot.kind not in ("STRING", "OPEN_STRING", "QUOTED"):
        return None
    text = spot.token.strip("'\"").strip()
    if "STRING" in spot.accepted:
        return _path(spot, text)
    if spot.head.type == "USE":
        hint = f'write each on a line of its own: `use "{text}"`'
        return spot.says("bad-string", "`use` names one file", "a second text", hint)
    bare = spot.replace(text) if text.isidentifier() and text.isascii() else None
    hints = [bare or spot.remove()]
    if not spot.statement:
        line, _ = spot.source.location(spot.span.start)
        words = spot.source.line(line).strip().strip("'\"").strip()
        hints = [f"for a comment write `# {words}`" if len(words) < _LONG else "write `# ...`"]
    message = "text in quotes stands only after `use`"
    return spot.says("bad-string", message, "a text cannot stand here", *hints)


def _path(spot: Spot, text: str) -> Diagnostic:
    if spot.kind == "QUOTED":
        message, label = 'the name of a file stands in double quotes `"`', 'write `"`'
    else:
        message, label = "the text is not closed on its line", 'no `"` at its end'
    return spot.says("bad-string", message, label, spot.replace(f'"{text}"'))
