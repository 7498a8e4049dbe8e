"""The masks that the models of Transformers give to their layers, from their configurations.

The models are tiny and have random weights; what each layer is handed as its mask is compared, so
the schedule of the layers is compared as well.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from oracle_helpers import Mask, mask_mod, mask_of, needed

import attnloom

SPY = "mask_spy"
TINY: dict[str, Any] = {
    "vocab_size": 32, "hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 64, "pad_token_id": 0,
    "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
MOE = {"num_local_experts": 2, "num_experts_per_tok": 1}
NANO = {
    "num_kv_shared_layers": 0, "vocab_size_per_layer_input": 32, "hidden_size_per_layer_input": 8,
    "laurel_rank": 4, "activation_sparsity_pattern": [0.0] * 13,
}  # fmt: skip


def masks_of_layers(model: Any, n: int, **arguments: Any) -> list[Mask]:
    """What each layer of a model is handed as its mask, the lowest first."""
    transformers = needed("transformers")
    from transformers.masking_utils import sdpa_mask

    seen: list[Mask] = []

    def spy(
        module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **_: Any
    ) -> tuple[torch.Tensor, None]:
        seen.append(np.asarray(attention_mask[0, 0].numpy()))
        return torch.zeros_like(query).transpose(1, 2), None

    def mask_for_spy(**given: Any) -> Any:
        given |= {
            "allow_is_causal_skip": False,
            "allow_is_bidirectional_skip": False,
            "local_size": None,
        }
        return sdpa_mask(**given)

    transformers.AttentionInterface.register(SPY, spy)
    transformers.AttentionMaskInterface.register(SPY, mask_for_spy)
    model.set_attn_implementation(SPY)
    model.eval()(torch.ones(1, n, dtype=torch.long), use_cache=False, **arguments)
    return seen


DECODERS = {
    # model: (configuration, pattern, name of the pattern's parameter, of the configuration's)
    "Mistral": ({}, "mistral", "recent", "sliding_window"),
    "Gemma2": ({}, "gemma2", "recent", "sliding_window"),
    "Gemma3Text": ({}, "gemma3", "recent", "sliding_window"),
    "GptOss": (MOE, "gpt_oss", "recent", "sliding_window"),
    "Cohere2": ({}, "command_a", "recent", "sliding_window"),
    "Olmo3": ({}, "olmo3", "recent", "sliding_window"),
    "Exaone4": ({}, "exaone4", "recent", "sliding_window"),
    "Llama4Text": (MOE, "llama4", "size", "attention_chunk_size"),
    "Cwm": ({}, "cwm", "recent", "sliding_window"),
    "Gemma3nText": (NANO, "gemma3n", "recent", "sliding_window"),
}


@pytest.mark.parametrize("model", DECODERS)
@pytest.mark.parametrize("window", [2, 3, 8, 40])
def test_every_layer_of_a_decoder_has_the_mask_of_the_pattern(
    against: Any, model: str, window: int
) -> None:
    transformers = needed("transformers")
    extra, pattern, parameter, option = DECODERS[model]
    config = getattr(transformers, f"{model}Config")(
        **TINY, **extra, num_hidden_layers=13, **{option: window}
    )
    built = getattr(transformers, f"{model}Model")(config)
    for n in (5, 16, 33):
        found = masks_of_layers(built, n)
        assert len(found) == 13
        for layer, mask in enumerate(found):
            ours = mask_of(pattern, n, layer=layer, layers=13, **{parameter: window})
            against("transformers").masks(f"{model}: masks of its layers", ours, mask)


@pytest.mark.parametrize("window", [1, 2, 7, 40])
def test_every_layer_of_mimo_has_the_mask_of_the_pattern(against: Any, window: int) -> None:
    """Its own configuration counts the window without the token, that of Transformers with it."""
    transformers = needed("transformers")
    config = transformers.MiMoV2FlashConfig(
        **TINY, num_hidden_layers=13, sliding_window_size=window, v_head_dim=8, n_routed_experts=2,
        num_experts_per_tok=1, moe_intermediate_size=8,
    )  # fmt: skip
    model = transformers.MiMoV2FlashModel(config)
    for n in (5, 16, 33):
        for layer, theirs in enumerate(masks_of_layers(model, n)):
            ours = mask_of("mimo_v2_flash", n, layer=layer, layers=13, back=window)
            against("transformers").masks("MiMo-V2-Flash: masks of its layers", ours, theirs)


@pytest.mark.parametrize("window", [2, 3, 8, 40])
def test_every_layer_of_a_modernbert_decoder_has_the_mask_of_the_pattern(
    against: Any, window: int
) -> None:
    transformers = needed("transformers")
    config = transformers.ModernBertDecoderConfig(
        **TINY, num_hidden_layers=7, local_attention=window, cls_token_id=1, sep_token_id=2
    )
    model = transformers.ModernBertDecoderModel(config)
    for n in (5, 16, 33):
        for layer, theirs in enumerate(masks_of_layers(model, n)):
            ours = mask_of("ettin", n, layer=layer, layers=7, recent=window // 2)
            against("transformers").masks("ModernBertDecoder: masks of its layers", ours, theirs)


@pytest.mark.parametrize("window", [2, 3, 8, 40])
def test_every_layer_of_a_bidirectional_gemma3_has_the_mask_of_the_pattern(
    against: Any, window: int
) -> None:
    transformers = needed("transformers")
    config = transformers.Gemma3TextConfig(
        **TINY, num_hidden_layers=13, sliding_window=window, use_bidirectional_attention=True
    )
    model = transformers.Gemma3TextModel(config)
    for n in (5, 16, 33):
        for layer, theirs in enumerate(masks_of_layers(model, n)):
            ours = mask_of("embedding_gemma", n, layer=layer, layers=13, reach=window // 2)
            against("transformers").masks("Gemma3, bidirectional: masks", ours, theirs)


@pytest.mark.parametrize("window", [2, 6, 30])
def test_every_layer_of_modernbert_has_the_mask_of_the_pattern(against: Any, window: int) -> None:
    """`local_attention` counts both sides without the token: w // 2 on each, so w + 1 keys."""
    transformers = needed("transformers")
    tiny = {k: v for k, v in TINY.items() if k not in ("num_key_value_heads", "head_dim")}
    config = transformers.ModernBertConfig(
        **tiny, num_hidden_layers=7, local_attention=window, cls_token_id=1, sep_token_id=2
    )
    model = transformers.ModernBertModel(config)
    for n in (5, 16, 33):
        arguments = {"attention_mask": torch.ones(1, n, dtype=torch.long)}
        transformers_masks = masks_of_layers_without_cache(model, n, **arguments)
        for layer, mask in enumerate(transformers_masks):
            ours = mask_of("modernbert", n, layer=layer, layers=7, reach=window // 2)
            against("transformers").masks("ModernBert: masks of its layers", ours, mask)


def masks_of_layers_without_cache(model: Any, n: int, **arguments: Any) -> list[Mask]:
    forward = model.forward
    model.forward = lambda *given, use_cache, **more: forward(*given, **more)
    try:
        return masks_of_layers(model, n, **arguments)
    finally:
        del model.forward


@pytest.mark.parametrize("window", [1, 2, 5, 64])
def test_gpt_neo_keeps_the_masks_of_the_pattern(against: Any, window: int) -> None:
    transformers = needed("transformers")
    config = transformers.GPTNeoConfig(
        vocab_size=32, hidden_size=16, num_layers=4, num_heads=2, intermediate_size=16,
        max_position_embeddings=40, window_size=window, attention_types=[[["global", "local"], 2]],
    )  # fmt: skip
    for layer, block in enumerate(transformers.GPTNeoModel(config).h):
        for n in (7, 40):
            ours = mask_of("gpt_neo", n, layer=layer, layers=4, recent=window)
            theirs = block.attn.attention.bias[0, 0, :n, :n]
            against("transformers").masks("GPTNeo: masks of its layers", ours, theirs)


def test_decoder_is_the_plain_causal_mask(against: Any) -> None:
    needed("transformers")
    from transformers.masking_utils import bidirectional_mask_function, causal_mask_function

    for n in (1, 17):
        ours = mask_of("decoder", n)
        against("transformers").masks("causal mask", ours, mask_mod(causal_mask_function, n))
        ours = mask_of("bert", n)
        theirs = mask_mod(lambda b, h, i, j: bidirectional_mask_function(b, h, i, j), n)
        theirs = np.broadcast_to(theirs, (n, n))
        against("transformers").masks("bidirectional mask", ours, theirs)


@pytest.mark.parametrize("lengths", [(16,), (5, 11), (1, 7, 8), (3, 3, 3, 3, 4)])
def test_packed_documents_are_kept_apart_as_by_packing(
    against: Any, lengths: tuple[int, ...]
) -> None:
    """Positions that begin anew are how Transformers is told of documents."""
    transformers = needed("transformers")
    positions = torch.tensor([[t for length in lengths for t in range(length)]])
    document = [number for number, length in enumerate(lengths) for _ in range(length)]
    n = len(document)
    llama = transformers.LlamaModel(transformers.LlamaConfig(**TINY, num_hidden_layers=1))
    (theirs,) = masks_of_layers(llama, n, position_ids=positions)
    ours = mask_of("packing", n, inputs={"document": document})
    against("transformers").masks("packed sequences", ours, theirs)

    config = transformers.MistralConfig(**TINY, num_hidden_layers=1, sliding_window=4)
    (theirs,) = masks_of_layers(transformers.MistralModel(config), n, position_ids=positions)
    both = attnloom.parse(
        "use mistral\nuse packing\npattern p { mistral(recent=4) & packing }", name="p.attn"
    )
    ours = both.mask(n, inputs={"document": document})
    against("transformers").masks("packed sequences with a window", ours, theirs)


@pytest.mark.parametrize("kinds", ["000111110000", "111100011100", "000000", "011101110", "11111"])
@pytest.mark.parametrize("window", [2, 3, 20])
def test_gemma3_reads_pictures_in_both_directions(against: Any, kinds: str, window: int) -> None:
    """Tokens of type 1 are of a picture; a run of them is one picture."""
    transformers = needed("transformers")
    from transformers.models.gemma3 import modeling_gemma3 as gemma

    config = transformers.Gemma3TextConfig(
        **TINY, num_hidden_layers=12, sliding_window=window, attn_implementation="eager"
    )
    token_types = torch.tensor([[int(kind) for kind in kinds]])
    n = len(kinds)
    ids = gemma.get_block_sequence_ids_for_mask(token_types)
    found = gemma.create_masks_for_vision_model(
        config, torch.zeros(1, n, 16), torch.ones(1, n, dtype=torch.long), None,
        torch.arange(n)[None], ids,
    )  # fmt: skip
    inputs = {"picture": [t for t in range(n) if kinds[t] == "1"], "number": ids[0].tolist()}
    for layer in range(12):
        theirs = found[config.layer_types[layer]][0, 0] == 0
        ours = mask_of("gemma3_vision", n, layer=layer, recent=window, inputs=inputs)
        against("transformers").masks("Gemma3 with pictures", ours, theirs)


@pytest.mark.parametrize("prefix", [0, 1, 5, 12])
def test_paligemma_reads_its_prefix_in_both_directions(against: Any, prefix: int) -> None:
    """As PaliGemmaModel builds it: one block for what is not to be predicted, the rest causal."""
    transformers = needed("transformers")
    from transformers.masking_utils import create_causal_mask

    n = 12
    config = transformers.GemmaConfig(**TINY, num_hidden_layers=1, attn_implementation="eager")
    predicted = torch.arange(n)[None] >= prefix
    theirs = create_causal_mask(
        config=config, inputs_embeds=torch.zeros(1, n, 16), attention_mask=torch.ones(1, n),
        past_key_values=None, position_ids=torch.arange(n)[None],
        block_sequence_ids=torch.where(predicted, -1, 0),
    )  # fmt: skip
    ours = mask_of("prefix_lm", n, prefix=prefix)
    against("transformers").masks("PaliGemma: prefix of its mask", ours, theirs[0, 0] == 0)


@pytest.mark.parametrize(
    ("height", "width", "size"),
    [(6, 6, 3), (8, 4, 4), (9, 12, 3), (10, 10, 5), (4, 4, 7), (3, 6, 3)],
)
@pytest.mark.parametrize("layer", [0, 1])
def test_swin_partitions_and_masks_as_the_pattern_says(
    against: Any, height: int, width: int, size: int, layer: int
) -> None:
    """Maps of whole windows: otherwise Swin pads the picture, and its tokens read the padding."""
    transformers = needed("transformers")
    from transformers.models.swin import modeling_swin as swin

    config = transformers.SwinConfig(window_size=size, embed_dim=8, num_heads=[1])
    one = swin.SwinLayer(config, 8, (height, width), 1, shift_size=layer * (size // 2))
    one.set_shift_and_window_size((height, width))
    side = int(one.window_size)
    numbers = torch.arange(height * width).view(1, height, width, 1).float()
    windows = swin.window_partition(one.cyclic_shift(numbers), side).long().view(-1, side * side)
    allowed = one.get_attn_mask(height, width, torch.float32, torch.device("cpu"))
    theirs = np.zeros((height * width, height * width), dtype=bool)
    for number, window in enumerate(windows.numpy()):
        inside = np.ones((side**2, side**2)) if allowed is None else allowed[number] == 0
        theirs[np.ix_(window, window)] = inside
    ours = mask_of("swin", height * width, width=width, size=size, layer=layer)
    against("transformers").masks("Swin: windows, shift and mask", ours, theirs)
    if one.shift_size:
        moved = mask_of(
            "swin_shifted", height * width, width=width, size=size, moved=int(one.shift_size)
        )
        against("transformers").masks("Swin: windows, shift and mask", moved, theirs)


@pytest.mark.parametrize(("height", "width", "size"), [(6, 6, 3), (8, 4, 4), (14, 28, 14)])
def test_vitdet_partitions_as_the_pattern_says(
    against: Any, height: int, width: int, size: int
) -> None:
    """Maps of whole windows, as above."""
    needed("transformers")
    from transformers.models.vitdet import modeling_vitdet as vitdet

    numbers = torch.arange(height * width).view(1, height, width, 1)
    windows, _ = vitdet.window_partition(numbers, size)
    theirs = np.zeros((height * width, height * width), dtype=bool)
    for window in windows.view(-1, size * size).numpy():
        theirs[np.ix_(window, window)] = True
    ours = mask_of("vitdet", height * width, width=width, size=size)
    against("transformers").masks("VitDet: windows", ours, theirs)
    ours = mask_of("vitdet", height * width, width=width, size=size, layer=2)
    against("transformers").masks("VitDet: windows", ours, np.ones_like(theirs))
