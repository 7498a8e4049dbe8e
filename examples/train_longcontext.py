"""Train small encoders on Python's own sources, with a question that needs a far token.

Every sequence is a piece of source code, as bytes. A letter stands at its beginning, behind a
mark, and is asked for in its second half; besides, bytes are masked here and there, to be guessed
from what is around them. How many layers it takes from the letter to a question is known before:
`Pattern.analyze` counts the hops. Four patterns are trained, each in a process of its own, so that
their memory can be told apart:

    python examples/train_longcontext.py
    python examples/train_longcontext.py --length 512 --steps 800 --patterns local full

Writes the curves to `longcontext.json` and, where matplotlib is installed, `longcontext.png`.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from torch.nn.functional import cross_entropy

import attnloom
from attnloom.nn import Encoder

REACH = 8
PATTERNS = {
    "local": f"pattern local {{ window(each_side={REACH}) }}",
    "local + global": f"pattern with_global {{ window(each_side={REACH}); global(first 4) }}",
    "local + memory": f"pattern with_memory {{ memory(4); window(each_side={REACH}) }}",
    "full": "pattern everything { full }",
}
LAYERS, HEADS, WIDTH = 3, 4, 64
LETTERS = 16
MARK, QUESTION, MASK = 256, 257, 258  # beside the bytes
FIRST_LETTER = 259
VOCABULARY = FIRST_LETTER + LETTERS
PLACE, REPEATS = 4, 8  # of the mark; the letter follows it, so many times
LETTER_PLACES = np.arange(PLACE + 1, PLACE + 1 + REPEATS)
QUESTIONS_APART = 8


def sources() -> np.ndarray:
    """The sources of Python's standard library, one after the other, as bytes."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    files = sorted(folder.glob("*.py"))
    return np.frombuffer(b"".join(path.read_bytes() for path in files), dtype=np.uint8)


def batches(text: np.ndarray, batch: int, length: int, seed: int) -> Iterator[tuple[Any, ...]]:
    """What the model sees, what there was, which bytes are masked, and the letters."""
    rng = np.random.default_rng(seed)
    places = question_places(length)
    while True:
        starts = rng.integers(0, len(text) - length, batch)
        truth = text[starts[:, None] + np.arange(length)].astype(np.int64)
        letters = FIRST_LETTER + rng.integers(0, LETTERS, batch)
        truth[:, PLACE], truth[:, LETTER_PLACES] = MARK, letters[:, None]
        truth[:, places - 1], truth[:, places] = QUESTION, letters[:, None]
        masked = rng.random(truth.shape) < 0.1
        masked[:, [PLACE, *LETTER_PLACES, *places, *(places - 1)]] = False
        seen = np.where(masked, MASK, truth)
        seen[:, places] = MASK
        yield tuple(map(torch.from_numpy, (seen, truth, masked, letters)))


def question_places(length: int) -> np.ndarray:
    """Where the letter is asked for."""
    return np.arange(length // 2 + QUESTIONS_APART, length, QUESTIONS_APART)


def train(name: str, length: int, steps: int, batch: int, seed: int) -> Iterator[dict[str, Any]]:
    """Train with one pattern; what each step found, and what it cost.

    Costs are those of this process alone: its processor time, whatever else the machine does, and
    the most memory it had beyond what it started from.
    """
    torch.manual_seed(seed)
    text = sources()
    memory_before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    pattern = attnloom.parse(PATTERNS[name])
    # Normalised queries and keys could not single one letter out among so many bytes for long.
    model = Encoder(VOCABULARY, WIDTH, LAYERS, HEADS, pattern, qk_norm=False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps + 1)
    weights = model.embedding.weight
    places, started = torch.from_numpy(question_places(length)), None
    for step, (seen, truth, masked, letters) in enumerate(
        batches(text, batch, length, seed), start=1
    ):
        states = model(seen)
        answers = states[:, places] @ weights[FIRST_LETTER:].T
        wanted = (letters - FIRST_LETTER)[:, None].expand(-1, len(places))
        text_loss = cross_entropy(states[masked] @ weights.T, truth[masked])
        letter_loss = cross_entropy(answers.flatten(0, 1), wanted.flatten())
        optimizer.zero_grad()
        (text_loss + letter_loss).backward()
        optimizer.step()
        rate.step()
        right = (answers.argmax(-1) == wanted).float().mean()
        started = time.process_time() if started is None else started  # after the plan is made
        seconds = time.process_time() - started
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory_before
        yield {
            "step": step,
            "text_loss": text_loss.item(),
            "letter_loss": letter_loss.item(),
            "right": right.item(),
            "tokens_per_second": (step - 1) * batch * length / seconds if seconds else None,
            "memory_mib": memory / 1024,
        }
        if step == steps:
            return


def hops(name: str, length: int) -> int | None:
    """How many layers it takes from the letter to the nearest question, by the analysis."""
    pattern = attnloom.parse(PATTERNS[name])
    pair = int(LETTER_PLACES[-1]), int(question_places(length)[0])
    route = pattern.analyze(length, pair=pair).route
    return None if route is None else len(route.reads)


def run(name: str, arguments: argparse.Namespace, note: Any) -> list[dict[str, Any]]:
    """The curve of one pattern, trained in a process of its own."""
    command = [sys.executable, __file__, "--worker", name]
    for option in ("length", "steps", "batch", "seed", "threads"):
        command += [f"--{option}", str(getattr(arguments, option))]
    curve = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            curve.append(json.loads(line))
            note(curve[-1])
    if process.returncode:
        raise SystemExit(f"training with {name!r} failed")
    return curve


def plot(curves: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """The losses as a picture."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    for axes, key, title in zip(
        figure.subplots(1, 2),
        ("letter_loss", "text_loss"),
        ("the far letter", "masked bytes of the text"),
        strict=True,
    ):
        for name, curve in curves.items():
            values = np.array([point[key] for point in curve])
            width = max(1, len(values) // 40)
            smooth = np.convolve(values, np.ones(width) / width, mode="valid")
            axes.plot(np.arange(len(smooth)) + width, smooth, label=name)
        axes.set(title=title, xlabel="step", ylabel="cross-entropy (nats)")
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--length", type=int, default=128, help="tokens of a sequence")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    # More would mostly wait for each other: the model is small.
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--patterns", nargs="+", choices=PATTERNS, default=list(PATTERNS))
    parser.add_argument("--out", type=Path, default=Path(), help="folder for what is written")
    parser.add_argument("--worker", choices=PATTERNS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        torch.set_num_threads(arguments.threads)
        settings = arguments.length, arguments.steps, arguments.batch, arguments.seed
        for point in train(arguments.worker, *settings):
            sys.stdout.write(json.dumps(point) + "\n")
            sys.stdout.flush()
        return

    console = Console(stderr=True)
    curves, rows = {}, []
    with Progress(console=console) as progress:
        for name in arguments.patterns:
            task = progress.add_task(name, total=arguments.steps)
            curve = run(name, arguments, lambda _, task=task: progress.advance(task))
            curves[name] = curve
            last = curve[-max(1, len(curve) // 10) :]
            needed = hops(name, arguments.length)
            rows.append({
                "pattern": name,
                "hops": needed,
                "layers": LAYERS,
                "can_solve": needed is not None and needed <= LAYERS,
                "right": float(np.mean([point["right"] for point in last])),
                "text_loss": float(np.mean([point["text_loss"] for point in last])),
                "tokens_per_second": curve[-1]["tokens_per_second"],
                "memory_mib": curve[-1]["memory_mib"],
            })  # fmt: skip
    arguments.out.mkdir(parents=True, exist_ok=True)
    report = {"settings": vars(arguments) | {"out": str(arguments.out)}, "results": rows}
    text = json.dumps(report | {"curves": curves})
    (arguments.out / "longcontext.json").write_text(text, encoding="utf-8")
    try:
        plot(curves, arguments.out / "longcontext.png")
    except ImportError:
        console.print("no picture: `pip install matplotlib` draws one")

    table = Table(title=f"{arguments.length} tokens, {LAYERS} layers")
    for column in (
        "pattern", "hops", "predicted", "right", "text loss", "tokens/CPU s", "MiB"
    ):  # fmt: skip
        table.add_column(column, justify="left" if column == "pattern" else "right", no_wrap=True)
    for row in rows:
        rate = row["tokens_per_second"]
        table.add_row(
            row["pattern"], str(row["hops"]), "solves it" if row["can_solve"] else "cannot",
            f"{row['right']:.0%}", f"{row['text_loss']:.2f}", f"{rate:,.0f}" if rate else "-",
            f"{row['memory_mib']:,.0f}",
        )  # fmt: skip
    Console().print(table)


if __name__ == "__main__":
    main()
