"""`PatternAttention` against PyTorch's attention over dense masks."""

from __future__ import annotations

import copy
import io
import multiprocessing
from typing import Any

import pytest
import torch
import torch._dynamo.testing
from nn_helpers import dense_mask, densely, seeded, states
from torch.utils.checkpoint import checkpoint

import attnloom
from attnloom import PatternAttention
from attnloom.nn import Rope
from attnloom.nn import attention as attention_module

WIDTH, HEADS, N = 32, 4, 70
PATTERNS = {
    "longformer": attnloom.load("longformer", reach=5),
    "mistral": attnloom.load("mistral", recent=9),
    "heads differ": attnloom.parse(
        "pattern p { when head % 2 == 0 { window(each_side=3) } else { random(links=4) } }"
    ),
    "empty rows": attnloom.parse("pattern p { window(last=7); never collect(every 3) }"),
    "memory": attnloom.parse("pattern p { memory(3); window(each_side=4) }"),
}


def layer_of(pattern: Any, **options: Any) -> PatternAttention:
    module = seeded(PatternAttention(WIDTH, HEADS, pattern, **options))
    assert isinstance(module, PatternAttention)
    return module


def gradients(output: torch.Tensor, *of: torch.Tensor) -> list[torch.Tensor]:
    return list(torch.autograd.grad((output * states(*output.shape, seed=9)).sum(), of))


@pytest.mark.parametrize("name", PATTERNS)
@pytest.mark.parametrize("kv_heads", [HEADS, 2])
def test_module_gives_what_dense_attention_gives_and_its_gradients(
    name: str, kv_heads: int
) -> None:
    pattern = PATTERNS[name]
    module = layer_of(pattern, num_kv_heads=kv_heads)
    memory = 3 if name == "memory" else 0
    x = states(2, memory + N, WIDTH).requires_grad_()
    mask = dense_mask(pattern, N, HEADS)
    expected = densely(module, x, mask)
    output = module(x)
    torch.testing.assert_close(output, expected, atol=1e-10, rtol=0)
    weights = list(module.parameters())
    for one, other in zip(
        gradients(output, x, *weights), gradients(expected, x, *weights), strict=True
    ):
        torch.testing.assert_close(one, other, atol=1e-8, rtol=0)


def test_layers_differ_where_the_pattern_says_so() -> None:
    pattern = attnloom.load("gemma3", recent=6)
    found = []
    for layer in (4, 5):
        module = layer_of(pattern, layer=layer, layers=6)
        x = states(1, 30, WIDTH)
        mask = dense_mask(pattern, 30, HEADS, layer=layer)
        torch.testing.assert_close(module(x), densely(module, x, mask), atol=1e-10, rtol=0)
        found.append(mask)
    assert not torch.equal(*found)


def test_plan_of_a_length_is_made_once() -> None:
    module = layer_of(PATTERNS["longformer"])
    made = [module.plan(n) for n in (20, 30, 20)]
    assert made[0] is made[2]
    module(states(1, 30, WIDTH))
    assert list(module.plans.by_length) == [(20, "cpu"), (30, "cpu")]


def test_plans_that_are_kept_are_limited() -> None:
    module = layer_of(PATTERNS["longformer"])
    for n in range(20, 60):
        module.plan(n)
    assert len(module.plans.by_length) == module.plans.most


@pytest.fixture(params=["by length", "at once"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of reading sequences of several lengths; on a CPU only the first is taken."""
    if request.param == "at once":
        monkeypatch.setattr(
            attention_module, "takes_lengths", lambda plans, device, backend: plans.keeps_growing
        )
    return str(request.param)


@pytest.mark.parametrize("side", ["left", "right", "within"])
@pytest.mark.parametrize("name", PATTERNS)
def test_padded_sequence_gives_what_it_gives_alone(name: str, side: str, way: str) -> None:
    module = layer_of(PATTERNS[name])
    memory = 3 if name == "memory" else 0
    n = 24
    lengths = [24, 13, 1, 13]
    mask = torch.zeros(len(lengths), n, dtype=torch.long)
    for row, length in zip(mask, lengths, strict=True):
        if side == "left":
            row[n - length :] = 1
        elif side == "right":
            row[:length] = 1
        else:
            row[torch.linspace(0, n - 1, length).long()] = 1
    x = states(len(lengths), memory + n, WIDTH).requires_grad_()
    whole = torch.cat([torch.ones(len(lengths), memory, dtype=torch.long), mask], 1).bool()
    output = module(x, attention_mask=mask)
    for element in range(len(lengths)):
        alone = module(x[element : element + 1, whole[element]])
        torch.testing.assert_close(output[element, whole[element]], alone[0], atol=1e-10, rtol=0)
    assert (output[~whole] == 0).all()
    (gradient,) = gradients(output, x)
    assert (gradient[~whole] == 0).all()
    assert (gradient[whole] != 0).any(-1).float().mean() > 0.5


def test_what_stands_in_padding_makes_no_difference(way: str) -> None:
    module = layer_of(PATTERNS["longformer"])
    x = states(2, 20, WIDTH)
    mask = torch.ones(2, 20)
    mask[0, 15:] = mask[1, :4] = 0
    junk = torch.where(mask[..., None] == 0, torch.full_like(x, torch.nan), x)
    outputs = [module(one.requires_grad_(), attention_mask=mask) for one in (x, junk)]
    assert torch.equal(*outputs)
    for one, other in zip(*(gradients(y, *module.parameters()) for y in outputs), strict=True):
        assert torch.equal(one, other)


def test_sequence_of_padding_alone_gives_zero(way: str) -> None:
    module = layer_of(PATTERNS["longformer"])
    mask = torch.tensor([[0] * 10, [1] * 10])
    output = module(states(2, 10, WIDTH), attention_mask=mask)
    assert (output[0] == 0).all()
    assert (output[1] != 0).any()


def test_pattern_that_counts_from_the_end_sees_the_real_end(way: str) -> None:
    pattern = attnloom.parse("pattern p { self; global(-1) }")
    module = layer_of(pattern)
    x = states(2, 12, WIDTH)
    mask = torch.ones(2, 12)
    mask[0, 9:] = 0
    output = module(x, attention_mask=mask)
    expected = densely(module, x[:1, :9], dense_mask(pattern, 9, HEADS))
    torch.testing.assert_close(output[:1, :9], expected, atol=1e-10, rtol=0)


INPUTS = attnloom.parse(
    """pattern p {
        input question: tokens
        input doc: segments
        window(each_side=2); global(question)
        only same(doc)
    }"""
)


def given_inputs(batch: int, n: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    question = torch.rand(batch, n, generator=generator) < 0.2
    doc = (torch.rand(batch, n, generator=generator) < 0.1).cumsum(1)
    return {"question": question, "doc": doc}


def test_inputs_are_given_for_each_sequence() -> None:
    module = layer_of(INPUTS)
    inputs = given_inputs(3, 40)
    x = states(3, 40, WIDTH)
    mask = dense_mask(INPUTS, 40, HEADS, inputs=inputs, batch=3)
    expected = densely(module, x, mask)
    torch.testing.assert_close(module(x, inputs=inputs), expected, atol=1e-10, rtol=0)
    plan = module.plan(40, inputs)
    assert module.plan(40, {name: value.clone() for name, value in inputs.items()}) is plan
    assert torch.equal(module(x, plan=plan), module(x, inputs=inputs))
    other = given_inputs(3, 40)
    other["doc"][0, -1] += 1
    assert module.plan(40, other) is not plan


@pytest.mark.parametrize("side", ["left", "right"])
def test_inputs_of_a_padded_batch_are_those_of_its_tokens(side: str, way: str) -> None:
    module = layer_of(INPUTS)
    n, lengths = 30, [30, 11, 20]
    inputs, x = given_inputs(3, n), states(3, n, WIDTH)
    mask = torch.zeros(3, n)
    parts = [slice(n - k, n) if side == "left" else slice(0, k) for k in lengths]
    for row, part in zip(mask, parts, strict=True):
        row[part] = 1
    output = module(x, attention_mask=mask, inputs=inputs)
    for element, part in enumerate(parts):
        own = {name: value[element : element + 1, part] for name, value in inputs.items()}
        alone = module(x[element : element + 1, part], inputs=own)
        torch.testing.assert_close(output[element, part], alone[0], atol=1e-10, rtol=0)


def test_inputs_that_do_not_fit_the_padding_are_refused() -> None:
    module = layer_of(attnloom.load("longformer_qa", reach=3))
    x, mask = states(2, 12, WIDTH), torch.ones(2, 12)
    with pytest.raises(ValueError, match=r"inputs\['question'\] must have shape \(2, 12\)"):
        module(x, attention_mask=mask, inputs={"question": [[0], [1, 2]]})
    with pytest.raises(ValueError, match="question"):
        module(x)


@pytest.mark.parametrize("batched", [False, True])
def test_global_tokens_have_projections_of_their_own(batched: bool) -> None:
    text = "pattern p { input hub: tokens; window(each_side=3); global(hub) }"
    pattern = attnloom.parse(text if batched else "pattern p { window(each_side=3); global(0..2) }")
    module = layer_of(pattern, num_kv_heads=2, global_projections=True)
    hubs = torch.zeros(3, 20, dtype=torch.bool)
    hubs[0, 5] = hubs[0, 19] = hubs[1, 0] = True  # none in the last
    if not batched:
        hubs[:] = torch.arange(20) < 2
    inputs = {"hub": hubs} if batched else None
    x = states(3, 20, WIDTH).requires_grad_()
    near = (torch.arange(20)[:, None] - torch.arange(20)).abs() <= 3
    mask = (near | hubs[:, None, :] | hubs[:, :, None])[:, None]
    expected = torch.where(
        hubs[..., None], densely(module, x, mask, "global_proj"), densely(module, x, mask)
    )
    output = module(x, inputs=inputs)
    torch.testing.assert_close(output, expected, atol=1e-10, rtol=0)
    weights = list(module.parameters())
    for one, other in zip(
        gradients(output, x, *weights), gradients(expected, x, *weights), strict=True
    ):
        torch.testing.assert_close(one, other, atol=1e-8, rtol=0)


def test_global_tokens_of_a_padded_batch_have_projections_of_their_own(way: str) -> None:
    module = layer_of(attnloom.load("longformer", reach=2, cls="[0, 3]"), global_projections=True)
    x = states(2, 15, WIDTH)
    mask = torch.ones(2, 15)
    mask[0, :6] = 0
    output = module(x, attention_mask=mask)
    torch.testing.assert_close(output[0, 6:], module(x[:1, 6:])[0], atol=1e-10, rtol=0)
    assert (output[0, :6] == 0).all()


def test_norms_and_positions_are_applied_to_queries_and_keys() -> None:
    pattern = PATTERNS["mistral"]
    module = layer_of(pattern, qk_norm=torch.nn.RMSNorm, rope=Rope(WIDTH // HEADS), bias=False)
    x = states(2, N, WIDTH)
    seen: list[torch.Tensor] = []

    # The same by hand, from the definitions of both.
    def rms(y: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        eps = torch.finfo(y.dtype).eps
        return y * (y.square().mean(-1, keepdim=True) + eps).rsqrt() * weight

    def turned(y: torch.Tensor) -> torch.Tensor:
        half = y.shape[-1] // 2
        numbers = torch.complex(y[..., :half], y[..., half:])
        speed = 10000.0 ** (-torch.arange(half).double() / half)
        angle = torch.arange(N).double()[:, None] * speed
        numbers = numbers * torch.polar(torch.ones_like(angle), angle)
        return torch.cat([numbers.real, numbers.imag], -1)

    for one in "qkv":
        y = (x @ getattr(module, f"{one}_proj").weight.T).view(2, N, HEADS, -1).transpose(1, 2)
        if one != "v":
            y = turned(rms(y, getattr(module, f"{one}_norm").weight))
        seen.append(y)
    mask = dense_mask(pattern, N, HEADS)
    found = torch.nn.functional.scaled_dot_product_attention(*seen, mask)
    expected = found.transpose(1, 2).reshape(2, N, WIDTH) @ module.o_proj.weight.T
    # The angles are worked out in float32.
    torch.testing.assert_close(module(x), expected, atol=1e-4, rtol=0)


def test_memory_tokens_have_positions_before_the_first() -> None:
    seen = []

    def rope(
        query: torch.Tensor, key: torch.Tensor, positions: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        seen.append(positions.tolist())
        return query, key

    layer_of(PATTERNS["memory"], rope=rope)(states(1, 5, WIDTH))
    assert seen == [[-3, -2, -1, 0, 1]]


# --- a good citizen of PyTorch -------------------------------------------------------------------


class Model(torch.nn.Module):
    """Two layers whose patterns differ."""

    def __init__(self) -> None:
        super().__init__()
        self.first = PatternAttention(WIDTH, HEADS, PATTERNS["longformer"], global_projections=True)
        self.second = PatternAttention(WIDTH, HEADS, PATTERNS["mistral"], num_kv_heads=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = self.second(x + self.first(x))
        assert isinstance(found, torch.Tensor)
        return found


@pytest.mark.parametrize("each", [False, True])
def test_model_is_one_graph_for_each_length(each: bool) -> None:
    torch._dynamo.reset()
    graphs = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    plain, compiled = Model(), Model()
    compiled.load_state_dict(plain.state_dict())
    if each:  # the layers share their code, and still each follows its own plan
        for layer in (compiled.first, compiled.second):
            layer.compile(fullgraph=True, backend=graphs)
    else:
        compiled.compile(fullgraph=True, backend=graphs)
    for n in (20, 33, 20, 41, 33):
        x = torch.randn(2, n, WIDTH, requires_grad=True)
        outputs = [model(x) for model in (plain, compiled)]
        torch.testing.assert_close(*outputs)
        pairs = [gradients(y.double(), x) for y in outputs]
        torch.testing.assert_close(*pairs)
    assert graphs.frame_count == (6 if each else 3)


def test_checkpointing_and_autocast_work() -> None:
    model = Model()
    x = torch.randn(2, 30, WIDTH, requires_grad=True)
    saved = checkpoint(model, x, use_reentrant=False)
    torch.testing.assert_close(saved, model(x))
    torch.testing.assert_close(gradients(saved.double(), x), gradients(model(x).double(), x))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        lowered = model(x)
        padded = model.second(x, attention_mask=torch.ones(2, 30))
    assert lowered.dtype == padded.dtype == torch.bfloat16
    torch.testing.assert_close(lowered.float(), model(x), atol=0.05, rtol=0.05)


def test_copies_and_files_hold_the_weights_and_no_plans() -> None:
    model, x = Model(), torch.randn(2, 30, WIDTH)
    expected = model(x)
    assert not [name for name in model.state_dict() if "plan" in name]
    other = Model()
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(x), expected)
    twin = copy.deepcopy(model)
    assert torch.equal(twin(x), expected)
    assert twin.first.plans is not model.first.plans
    file = io.BytesIO()
    torch.save(model, file)
    assert len(file.getvalue()) < 4 * sum(p.numel() for p in model.parameters()) + 60_000
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=False)(x), expected)


def _outputs(model: Model, x: torch.Tensor, answers: Any) -> None:
    torch.set_num_threads(1)
    answers.put(model(x).detach().numpy())


def test_model_can_be_sent_to_another_process() -> None:
    model, x = Model(), torch.randn(2, 30, WIDTH)
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    process = context.Process(target=_outputs, args=(model, x, answers))
    process.start()
    found = torch.from_numpy(answers.get(timeout=120))
    process.join()
    assert process.exitcode == 0
    torch.testing.assert_close(found, model(x).detach())


class Documents(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    """Some states and the document that each token is of."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, number: int) -> dict[str, torch.Tensor]:
        return {"x": states(30, WIDTH, seed=number), "document": torch.arange(30) // (3 + number)}


class Planned:
    """Makes batches, and in the worker the plans that go with them."""

    def __init__(self, layer: PatternAttention) -> None:
        self.layer = layer

    def __call__(self, rows: list[dict[str, torch.Tensor]]) -> tuple[Any, ...]:
        batch = torch.utils.data.default_collate(rows)
        return batch["x"], batch["document"], self.layer.plan(30, {"document": batch["document"]})


def test_workers_of_a_data_loader_can_make_the_plans() -> None:
    layer = layer_of(attnloom.load("packing"))
    loader = torch.utils.data.DataLoader(
        Documents(), batch_size=2, num_workers=1, collate_fn=Planned(layer)
    )
    for x, doc, plan in loader:
        assert torch.equal(layer(x, plan=plan), layer(x, inputs={"document": doc}))
    assert len(loader) == 2


def test_batch_without_sequences_gives_none() -> None:
    assert layer_of(PATTERNS["longformer"])(states(0, 20, WIDTH)).shape == (0, 20, WIDTH)


def test_wrong_arguments_are_named() -> None:
    pattern = PATTERNS["longformer"]
    with pytest.raises(TypeError, match=r"got str; write attnloom\.load\('longformer'\)"):
        PatternAttention(32, 4, "longformer")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="num_heads must divide embed_dim, 32, got 5"):
        PatternAttention(32, 5, pattern)
    with pytest.raises(ValueError, match="num_kv_heads must divide num_heads, 4, got 3"):
        PatternAttention(32, 4, pattern, num_kv_heads=3)
    with pytest.raises(ValueError, match="layer must be below layers, 2, got 3"):
        PatternAttention(32, 4, pattern, layer=3, layers=2)
    with pytest.raises(
        TypeError, match=r"qk_norm must make a module.*torch\.nn\.RMSNorm, got True"
    ):
        PatternAttention(32, 4, pattern, qk_norm=True)
    with pytest.raises(TypeError, match=r"rope must be a function.*Rope\(head_dim\), got True"):
        PatternAttention(32, 4, pattern, rope=True)
    with pytest.raises(ValueError, match="query must have a width of 32, got 8"):
        PatternAttention(32, 4, pattern, rope=Rope(32))(torch.randn(2, 10, 32))
    module = PatternAttention(32, 4, pattern)
    x = torch.randn(2, 10, 32)
    with pytest.raises(ValueError, match=r"x must have shape \(batch, length, 32\)"):
        module(x[0])
    with pytest.raises(ValueError, match=r"attention_mask must have shape \(2, 10\), got \(2, 9\)"):
        module(x, attention_mask=torch.ones(2, 9))
    with pytest.raises(ValueError, match="plan must come without"):
        module(x, plan=module.plan(10), attention_mask=torch.ones(2, 10))
    with pytest.raises(ValueError, match="has no room for 3 memory tokens"):
        PatternAttention(32, 4, PATTERNS["memory"])(x[:, :3])
