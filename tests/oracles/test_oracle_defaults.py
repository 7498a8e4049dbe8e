"""The defaults of the patterns are those of the configurations that Transformers has for them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from oracle_helpers import needed

import attnloom


def same(value: int) -> int:
    return value


def half(value: int) -> int:
    return value // 2


Rule = Callable[[int], int]
DEFAULTS: list[tuple[str, str, Rule, str, str]] = [
    # configuration, its option, what becomes of it, pattern, parameter
    ("Mistral", "sliding_window", same, "mistral", "recent"),
    ("Gemma2", "sliding_window", same, "gemma2", "recent"),
    ("Gemma3nText", "sliding_window", same, "gemma3n", "recent"),
    ("GptOss", "sliding_window", same, "gpt_oss", "recent"),
    ("Cohere2", "sliding_window", same, "command_a", "recent"),
    ("Olmo3", "sliding_window", same, "olmo3", "recent"),
    ("Exaone4", "sliding_window", same, "exaone4", "recent"),
    ("Cwm", "sliding_window", same, "cwm", "recent"),
    ("MiMoV2Flash", "sliding_window", lambda keys: keys - 1, "mimo_v2_flash", "back"),
    ("Llama4Text", "attention_chunk_size", same, "llama4", "size"),
    ("Llama4Text", "attention_chunk_size", same, "llama4_chunked", "size"),
    ("GPTNeo", "window_size", same, "gpt_neo", "recent"),
    ("ModernBert", "local_attention", half, "modernbert", "reach"),
    ("ModernBertDecoder", "local_attention", half, "ettin", "recent"),
    ("Longformer", "attention_window", half, "longformer", "reach"),
    ("Longformer", "attention_window", half, "longformer_qa", "reach"),
    ("BigBird", "block_size", same, "bigbird", "size"),
    ("BigBird", "num_random_blocks", same, "bigbird", "picks"),
    ("LongT5", "local_radius", same, "longt5_tglobal", "reach"),
    ("LongT5", "global_block_size", same, "longt5_tglobal", "size"),
    ("LongT5", "local_radius", same, "local", "reach"),
    ("PegasusX", "block_size", same, "pegasus_x", "size"),
    ("PegasusX", "num_global_tokens", same, "pegasus_x", "slots"),
    ("Swin", "window_size", same, "swin", "size"),
    ("Swin", "window_size", same, "swin_shifted", "size"),
    ("Swin", "window_size", half, "swin_shifted", "moved"),
]


@pytest.mark.parametrize(
    ("model", "option", "rule", "pattern", "parameter"),
    DEFAULTS,
    ids=[f"{pattern}-{parameter}" for *_, pattern, parameter in DEFAULTS],
)
def test_default_is_that_of_the_configuration(
    model: str, option: str, rule: Rule, pattern: str, parameter: str
) -> None:
    transformers = needed("transformers")
    theirs = rule(getattr(getattr(transformers, f"{model}Config")(), option))
    assert attnloom.load(pattern).params[parameter] == theirs
