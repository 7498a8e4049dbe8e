"""The work limits of the compiler, in one place, and the exceptions when they are met.

A pattern file is untrusted input: whatever it asks for must end in bounded time and memory. The
limits are far above what real patterns need.
"""

from __future__ import annotations

MAX_LENGTH = 1 << 40
"""Tokens of a sequence, memory included; positions and their products stay within 64 bits."""

MAX_NUMBER = 1 << 63
"""Numbers in a pattern are between minus this and this, exclusive."""

MAX_NODES = 20_000
"""Expressions in a pattern, counted once for each use of a `let` or a called pattern."""

MAX_DEPTH = 200
"""Nesting of expressions, `let`s and pattern calls."""

MAX_PIECES = 4096
"""Diagonals, cells or residues that one primitive or condition may fall into."""

MAX_RUNS = 1 << 25
"""Ranges in a token set, or in some rows of a relation, held at once."""

MAX_LINKS = 1 << 27
"""Explicit links, random or given, of one relation."""

MAX_TILES = 1 << 26
"""Tiles of one layout."""

MAX_MASK_BYTES = 1 << 33
"""Bytes of the distinct partial masks of one layout."""

MAX_DENSE = 1 << 30
"""Pairs of a dense mask, or pairs for which a condition is asked one by one."""


class TooLarge(Exception):
    """A limit is met; the message says which. The caller turns it into a diagnostic."""
