"""What a pattern file may cost: size, tokens, digits and depth, so that no text hangs or crashes.

Every later stage may walk through a syntax tree by plain recursion: with up to `MAX_DEPTH` nodes
inside one another, a chain of operators counting half a node for each, a walk that takes five
frames a node and three an operator stays within Python's own limit of recursion.
"""

from __future__ import annotations

from attnloom.grammar.diagnostics import Diagnostic, PatternError
from attnloom.grammar.expressions import chain_of
from attnloom.grammar.source import Source, Span
from attnloom.grammar.syntax import Binary, Node, When, children

MAX_BYTES = 1_000_000
MAX_TOKENS = 20_000
MAX_BRACKETS = 100
MAX_DIGITS = 100
MAX_DEPTH = 100
"""Nodes inside one another in a syntax tree, from the file down to a number."""
MAX_CHAIN = 150
"""Operators in one chain such as `a | b | c`, which nests to the left: `((a | b) | c)`."""
MAX_STACK = 8 * MAX_DEPTH
"""Entries of the parser's stack; a node that is being read takes fewer than eight."""

_NAME_A_PART = "name a part: `let part = ...`"
_NEXT_TO_IT = "conditions that exclude each other need no `else`: `when layer == 7 { ... }`"
_OF_CHAINS = {
    "|": ("write each link on a line of its own", "or a list of tokens: `[0, 5, 9..12]`"),
}
_AT_RUN_TIME = "give long lists of links at run time: `input picks: links`"


def too_large(name: str, size: int | None = None) -> PatternError:
    """The file or text `name` has more than `MAX_BYTES` bytes."""
    return PatternError(
        [
            Diagnostic(
                "too-large",
                f"a pattern file has at most {MAX_BYTES:,} bytes, and this one is larger",
                "",
                Span(0, 0),
                Source(name, ""),
                hints=(_AT_RUN_TIME,),
                found="more bytes" if size is None else f"{size:,} bytes",
                expected=(f"at most {MAX_BYTES:,} bytes",),
            )
        ]
    )


def too_many_tokens(source: Source, span: Span) -> PatternError:
    return PatternError(
        [
            Diagnostic(
                "too-large",
                f"a pattern file has at most {MAX_TOKENS:,} words, signs and comments",
                "the limit is reached here",
                span,
                source,
                hints=(_AT_RUN_TIME,),
                found=f"more than {MAX_TOKENS:,} words, signs and comments",
                expected=("the end of the file",),
            )
        ]
    )


def too_many_brackets(source: Source, span: Span) -> PatternError:
    return PatternError(
        [
            Diagnostic(
                "too-deep",
                f"brackets nest at most {MAX_BRACKETS} deep",
                f"this is number {MAX_BRACKETS + 1}",
                span,
                source,
                hints=(_NAME_A_PART,),
                found=f"bracket number {MAX_BRACKETS + 1}",
                expected=(f"at most {MAX_BRACKETS} brackets inside one another",),
            )
        ]
    )


def too_deep(source: Source, span: Span, hint: str = _NAME_A_PART) -> PatternError:
    return PatternError(
        [
            Diagnostic(
                "too-deep",
                f"expressions and bodies nest at most {MAX_DEPTH} deep",
                "this lies deeper",
                span,
                source,
                hints=(hint,),
                found=f"more than {MAX_DEPTH} parts inside one another",
                expected=(f"at most {MAX_DEPTH} parts inside one another",),
            )
        ]
    )


def check_depth(tree: Node, source: Source) -> None:
    """Refuse a tree that plain recursion could not walk through.

    Raises:
        PatternError: it nests too deeply, or a chain of operators is too long.
    """
    # In half nodes: a node counts 2, an operator that goes on with a chain 1.
    todo = [(tree, 2)]
    while todo:
        node, depth = todo.pop()
        if isinstance(node, Binary):
            chain = chain_of(node)
            if len(chain) > MAX_CHAIN:
                raise _chain_too_long(chain, source)
            depth += len(chain) - 1
            todo += [(link.right, depth + 2) for link in chain]
            todo.append((chain[-1].left, depth + 2))
        else:
            todo += [(child, depth + 2) for child in children(node)]
        if depth > 2 * MAX_DEPTH:
            hint = _NEXT_TO_IT if isinstance(node, When) else _NAME_A_PART
            raise too_deep(source, node.span, hint)


def _chain_too_long(chain: list[Binary], source: Source) -> PatternError:
    operator = chain[0].operator
    return PatternError(
        [
            Diagnostic(
                "too-deep",
                f"a chain has at most {MAX_CHAIN} operators such as `{operator}`, "
                f"and this one has {len(chain):,}",
                f"operand number {MAX_CHAIN + 2}",
                chain[-MAX_CHAIN - 1].right.span,
                source,
                hints=_OF_CHAINS.get(operator, (_NAME_A_PART,)),
                found=f"{len(chain):,} operators",
                expected=(f"at most {MAX_CHAIN} operators",),
            )
        ]
    )
