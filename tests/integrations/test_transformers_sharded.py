"""Models of Transformers over several processes, against the same models in one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("transformers", reason="transformers is not installed; see docs/models.md")

from sharded_models import check_model
from sharded_processes import Processes

PATTERNS = {
    "window and globals": "window(last=12); global(0..1); only causal",
    "residues": "window(last=24, dilation=4)",
    "layers": "when layer % 2 == 0 { window(last=9) } else { causal }",
}


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    processes = Processes(2, tmp_path_factory.mktemp("processes"))
    yield processes
    processes.stop()


@pytest.mark.parametrize("name", ["Llama", "Gemma2", "GptOss"])
@pytest.mark.parametrize("text", PATTERNS.values(), ids=PATTERNS)
def test_loss_and_gradients_are_those_of_one_process(two: Processes, name: str, text: str) -> None:
    argument: dict[str, Any] = {"name": name, "text": text}
    two.run(check_model, argument)
