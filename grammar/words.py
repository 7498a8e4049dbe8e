"""The words and signs of the language, and how a message speaks of them."""

from __future__ import annotations

from collections.abc import Collection

_LONGEST_QUOTE = 40

KEYWORDS = (
    "and",
    "else",
    "every",
    "expect",
    "false",
    "first",
    "from",
    "in",
    "input",
    "last",
    "let",
    "memory",
    "never",
    "not",
    "only",
    "or",
    "pattern",
    "true",
    "use",
    "when",
)
"""Every reserved word; any of them may still name an argument: `window(last=512)`."""

SIGNS = {
    "EQUAL": "=",
    "BAR": "|",
    "CARET": "^",
    "AMPERSAND": "&",
    "PLUS": "+",
    "MINUS": "-",
    "STAR": "*",
    "FLOOR": "//",
    "PERCENT": "%",
    "POWER": "**",
    "TILDE": "~",
    "DOTDOT": "..",
    "COMMA": ",",
    "COLON": ":",
    "LPAR": "(",
    "RPAR": ")",
    "LSQB": "[",
    "RSQB": "]",
    "LBRACE": "{",
    "THEN": "{",
    "RBRACE": "}",
}
"""Terminal -> its only spelling."""

KEYWORD_TYPES = {word.upper(): word for word in KEYWORDS}
OPENERS = {"LPAR": "RPAR", "LSQB": "RSQB", "LBRACE": "RBRACE", "THEN": "RBRACE"}
"""Opening bracket -> the bracket that closes it."""
CLOSERS = frozenset(OPENERS.values())

VARIABLES = frozenset({"n", "i", "j", "head", "heads", "layer", "layers"})
BODIES = {"blocks": "(64)", "grid": "(8, 8)"}
"""The calls that have a body, with arguments for an example."""

OPERAND_STARTS = frozenset({"NAME", "NUMBER", "TRUE", "FALSE", "LPAR", "LSQB"})
EXPRESSION_STARTS = OPERAND_STARTS | {"MINUS", "TILDE", "NOT", "FIRST", "LAST", "EVERY"}
STATEMENT_WORDS = frozenset({"ONLY", "NEVER", "LET", "WHEN", "MEMORY", "INPUT", "EXPECT"})
INFIX = frozenset(
    {
        "AMPERSAND",
        "AND",
        "BAR",
        "CARET",
        "COMPARISON",
        "DOTDOT",
        "FLOOR",
        "MINUS",
        "OR",
        "PERCENT",
        "PLUS",
        "POWER",
        "STAR",
    }
)

ENDS = ("SEP", "$END", "RBRACE")
"""What ends a statement."""

ARITHMETIC = frozenset({"PLUS", "MINUS", "STAR", "FLOOR", "PERCENT", "POWER"})

# Every group that is wholly allowed is named instead of its members; larger groups come first.
_GROUPS = (
    (EXPRESSION_STARTS | STATEMENT_WORDS, "a statement"),
    (EXPRESSION_STARTS, "an expression"),
    (EXPRESSION_STARTS - {"NOT"}, "an operand"),
    (OPERAND_STARTS | {"MINUS", "TILDE"}, "a number, a name, a call or brackets"),
    (INFIX, "an operator"),
    (INFIX - {"DOTDOT"}, "an operator except `..`"),
    (ARITHMETIC, "an arithmetic operator"),
)
_KINDS = {
    "NAME": "a name",
    "NUMBER": "a number",
    "STRING": "a file in quotes",
    "COMPARISON": "a comparison",
    "WORD": "`name=value`",
    "SEP": "a new line",
    "$END": "the end of the file",
}


def spoken(terminal: str) -> str:
    """One terminal in words.

    >>> spoken("RPAR"), spoken("NAME")
    ('`)`', 'a name')
    """
    if terminal in _KINDS:
        return _KINDS[terminal]
    return f"`{SIGNS.get(terminal) or KEYWORD_TYPES[terminal]}`"


def expectations(terminals: Collection[str]) -> tuple[str, ...]:
    """What may come next, in words: groups of terminals first, then the rest.

    >>> expectations({"RPAR", "COMMA"})
    ('`)`', '`,`')
    """
    left = set(terminals)
    found = []
    for group, words in _GROUPS:
        if group <= left:
            found.append(words)
            left -= group
    order = ("WORD", *CLOSERS, "LBRACE", "THEN", "COMMA")
    rest = sorted(left, key=lambda one: (one not in order, one in ("SEP", "$END"), spoken(one)))
    return tuple(dict.fromkeys([*found, *map(spoken, rest)]))


def quoted(text: str) -> str:
    """A piece of a file in backticks, cut if it is long.

    >>> quoted("window"), quoted("x" * 100)[-8:]
    ('`window`', 'xxxx...`')
    """
    return f"`{text}`" if len(text) <= _LONGEST_QUOTE else f"`{text[: _LONGEST_QUOTE - 3]}...`"


def listed(words: Collection[str], joint: str = "or") -> str:
    """`a`, `a or b`, `a, b or c`."""
    *most, last = words
    return f"{', '.join(most)} {joint} {last}" if most else last
