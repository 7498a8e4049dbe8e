"""Random links by the rules of the reference: Philox4x32-10, one counter at a time."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from oracle_values import Pairs

WORD = 2**32


@lru_cache(maxsize=20_000)
def philox(counter: tuple[int, ...], key: tuple[int, ...]) -> list[int]:
    """The four words that Philox4x32-10 makes of four words of counter and two of key."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (
            (p1 // WORD) ^ c1 ^ k0,
            p1 % WORD,
            (p0 // WORD) ^ c3 ^ k1,
            p0 % WORD,
        )
        k0, k1 = (k0 + 0x9E3779B9) % WORD, (k1 + 0xBB67AE85) % WORD
    return [c0, c1, c2, c3]


def numbers_of(seed: int, block: int, query: int, head: int, layer: int) -> list[int]:
    """The two 64-bit numbers of one counter."""
    words = philox((block, query, head, layer), (seed % WORD, seed // WORD))
    return [words[0] * WORD + words[1], words[2] * WORD + words[3]]


def draw(
    candidates: Sequence[int], k: int, seed: int, query: int, head: int, layer: int
) -> set[int]:
    """The first `k` of a random permutation of the candidates of one query."""
    if len(candidates) <= k:
        return set(candidates)
    found: set[int] = set()
    block = 0
    while True:
        for number in numbers_of(seed, block, query, head, layer):
            if len(found) == k:
                return found
            found.add(candidates[number * len(candidates) // 2**64])
        block += 1


def rings(degree: int, n: int, seed: int, head: int, layer: int) -> Pairs:
    """Both neighbours of every token on each of `degree / 2` rings."""
    found: Pairs = set()
    for ring in range(degree // 2):
        order = sorted(range(n), key=lambda i: numbers_of(seed, 2**31 + ring, i, head, layer)[0])
        for place, token in enumerate(order):
            found.add((token, order[place - 1]))
            found.add((token, order[(place + 1) % n]))
    return found
