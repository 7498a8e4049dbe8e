"""The names that the language itself gives a meaning, but for those of the primitives."""

from __future__ import annotations

from attnloom.compiler.arithmetic import FUNCTIONS
from attnloom.compiler.primitives import primitives
from attnloom.compiler.typed import Type

VARIABLES = {
    "n": "the number of tokens, or of blocks inside of `blocks`",
    "head": "the number of the head, from 0",
    "heads": "how many heads there are",
    "layer": "the number of the layer, from 0",
    "layers": "how many layers there are",
}

POSITIONS = {"i": "the query", "j": "the key"}
"""Variables inside of `where`."""

CONSTRUCTS = ("blocks", "count", "grid", "transpose")

PARAMETER_TYPES = {"int": Type.NUMBER, "bool": Type.CONDITION, "tokens": Type.TOKENS}

INPUT_TYPES = {"tokens": Type.TOKENS, "segments": Type.SEGMENTS, "links": Type.LINKS}

METRICS = {
    "hops": "layers until every token has learnt of every other it is meant to",
    "mean_hops": "the same on average",
    "reads": "pairs",
    "density": "pairs, as a share of all",
    "reads_per_token": "keys of the query that reads most",
    "readers_per_token": "queries of the key that is read most",
    "coverage_layer": "the layer after which every token has learnt of every other",
    "unreachable": "pairs that never learn of each other",
    "token_cut": "fewest tokens whose loss parts two far ones",
    "hub_load": "the share of relayed traffic of the busiest token, in percent",
    "kv_cache": "most keys that causal decoding must keep",
}

PROPERTIES = {
    "causal": "no query reads a later key",
    "connected": "every token can learn of every other it is meant to",
    "symmetric": "who is read reads back",
    "no_empty_rows": "every query reads some key",
    "star": "one token reads all and is read by all",
    "prefix_stable": "no query reads other keys when more tokens follow",
}


def reserved(name: str) -> str | None:
    """What the language means by a name, if it may not be given to anything else.

    >>> reserved("window"), reserved("reach")
    ('a primitive', None)
    """
    if name in VARIABLES or name in POSITIONS:
        return "a variable of the language"
    if name in FUNCTIONS:
        return "a function of the language"
    if name in CONSTRUCTS:
        return "a word of the language"
    found = primitives().get(name)
    if found and not found[0].in_grid:
        return "a primitive"
    return None
