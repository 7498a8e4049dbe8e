"""Planted bugs: each is one that could be made, and the tests that should find it do.

A mutant is one line of the project changed in a copy of the package; the tests then run against
that copy, and must fail. `pytest -m slow tests/testing/test_mutations.py` plants all of them.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = {"grammar", "compiler", "runtime", "patterns"}


@dataclass(frozen=True)
class Mutant:
    """What is changed, in which file, and the tests that must find it."""

    name: str
    file: str
    right: str
    wrong: str
    tests: tuple[str, ...]
    needs: str | None = None


MODEL = "tests/compiler/test_zones_model.py"
ZONES = "compiler/zone_arrays.py"
KERNELS = "tests/runtime/kernels/test_kernels_against_dense.py"

MUTANTS = [
    Mutant(
        "zones composed with the distances of the wrong side",
        ZONES,
        "np.minimum(b[..., 2:4], middle + b[..., 5:3:-1], out=caps[..., 2:4])",
        "np.minimum(b[..., 2:4], middle + b[..., 4:6], out=caps[..., 2:4])",
        (MODEL,),
    ),
    Mutant(
        "corners of a zone counted as if they were one smaller",
        ZONES,
        "(low * (low + 1) + high * (high + 1)) // 2",
        "(low * (low - 1) + high * (high + 1)) // 2",
        (MODEL,),
    ),
    Mutant(
        "a zone transposed without turning its distances around",
        ZONES,
        "return caps[..., [2, 3, 0, 1, 5, 4]]",
        "return caps[..., [2, 3, 0, 1, 4, 5]]",
        (MODEL,),
    ),
    Mutant(
        "the closed form of a window off by one",
        "compiler/primitives/window.py",
        "return Bands.of(Band(d1=-right * step, d2=left * step, step=step))",
        "return Bands.of(Band(d1=-right * step, d2=left * step + step, step=step))",
        ("tests/compiler/test_primitives.py",),
    ),
    Mutant(
        "the definition of a window off by one, its closed form right",
        "compiler/primitives/window.py",
        "(distance % self.dilation == 0) & (-right <= step) & (step <= left)",
        "(distance % self.dilation == 0) & (-right <= step) & (step < left)",
        ("tests/compiler/test_primitives.py",),
    ),
    Mutant(
        "the boxes of a neighbourhood that moves in strides one position off",
        "compiler/primitives/axis.py",
        "yield Bounds(j=(0, rest)), (-end, -end)",
        "yield Bounds(j=(0, rest + 1)), (-end, -end)",
        ("tests/compiler/test_primitives.py",),
    ),
    Mutant(
        "a tile that lacks one pair taken for a full one",
        "compiler/tiling.py",
        "ids[sums == height * width] = FULL_MASK",
        "ids[sums >= height * width - 1] = FULL_MASK",
        ("tests/compiler/test_tiling.py",),
    ),
    Mutant(
        "the last tile forgotten where large tiles are cut up",
        "compiler/tiling.py",
        "inside = (rows < stop) & (columns < stop)",
        "inside = (rows < stop - 1) & (columns < stop)",
        ("tests/compiler/test_tiling.py",),
    ),
    Mutant(
        "a packed row put beside its place in the tile",
        "compiler/passes/pack.py",
        "(1 << local % 8).astype(np.uint8)",
        "(1 << (local + 1) % 8).astype(np.uint8)",
        ("tests/compiler/test_passes.py",),
    ),
    Mutant(
        "the worst hops one too few, where they are found by bisection",
        "compiler/analysis/by_zones.py",
        "return fewer + 1, before, powers",
        "return max(fewer, 1), before, powers",
        ("tests/compiler/analysis/test_analysis_closed_forms.py",),
    ),
    Mutant(
        "the last hop counted although it brought nothing",
        "compiler/analysis/by_zones.py",
        "counts.pop()",
        "pass",
        ("tests/compiler/analysis/test_analysis_programs.py",),
    ),
    Mutant(
        "the key of the token that is decoded not kept",
        "compiler/analysis/cache.py",
        "not_before = Zones.zone(reads.start, reads.stop, d=(-size, 0))",
        "not_before = Zones.zone(reads.start, reads.stop, d=(-size, -1))",
        ("tests/compiler/analysis/test_analysis_contracts.py",),
    ),
    Mutant(
        "a contract with <= read as one with <",
        "compiler/analysis/contracts.py",
        '"<=": operator.le',
        '"<=": operator.lt',
        ("tests/compiler/analysis/test_analysis_contracts.py",),
    ),
    Mutant(
        "the proof of equivalence content with sums of one constant",
        "compiler/horizon.py",
        "for _ in range(3):",
        "for _ in range(1):",
        ("tests/testing/test_equivalence.py",),
    ),
    Mutant(
        "`only` and `never` confused by the formatter",
        "grammar/formatter.py",
        'return ("never ", self.expr(value))',
        'return ("only ", self.expr(value))',
        ("tests/grammar/test_formatter.py",),
    ),
    Mutant(
        "a band of the CPU executor that begins a key too late",
        "runtime/cut_bands.py",
        "first_key = (start * step + int(usual_offsets[0])) * layout.block_n",
        "first_key = (start * step + int(usual_offsets[0])) * layout.block_n + 1",
        ("tests/runtime/test_runtime_cpu_backend.py",),
    ),
    Mutant(
        "a band of the Triton kernels off by one",
        "runtime/kernels/tiles.py",
        "above = rows[:, None] >= (columns + least)[None, :]",
        "above = rows[:, None] > (columns + least)[None, :]",
        (KERNELS,),
        needs="triton",
    ),
    Mutant(
        "a bit mask of the Triton kernels read at the next word",
        "runtime/kernels/tiles.py",
        "rows * WORDS + first_column // WORD",
        "rows * WORDS + first_column // WORD + 1",
        (KERNELS,),
        needs="triton",
    ),
    Mutant(
        "positions of a row of tiles in the Triton kernels counted from one",
        "runtime/kernels/tiles.py",
        "found = code + step * numbers",
        "found = code + step * (numbers + 1)",
        (KERNELS,),
        needs="triton",
    ),
]
each = pytest.mark.parametrize("mutant", MUTANTS, ids=lambda one: one.name.replace(" ", "-"))


@each
def test_what_a_mutant_changes_is_there_once(mutant: Mutant) -> None:
    text = (ROOT / mutant.file).read_text(encoding="utf-8")
    assert text.count(mutant.right) == 1
    assert mutant.wrong != mutant.right
    assert all((ROOT / test).exists() for test in mutant.tests)


@pytest.mark.slow
@each
def test_planted_bug_is_found(mutant: Mutant, tmp_path: Path) -> None:
    if mutant.needs and importlib.util.find_spec(mutant.needs) is None:
        pytest.skip(f"needs {mutant.needs}")
    done = run_against(plant(mutant, tmp_path), mutant.tests)
    assert done.returncode == 1, done.stdout[-2000:]
    assert " failed" in done.stdout or "FAILED" in done.stdout


@pytest.mark.slow
def test_nothing_is_found_where_nothing_is_planted(tmp_path: Path) -> None:
    unchanged = Mutant("", "compiler/horizon.py", "for _ in range(3):", "for _ in range(3):", ())
    where = plant(unchanged, tmp_path)
    done = run_against(where, ("tests/testing/test_equivalence.py",))
    assert done.returncode == 0, done.stdout[-2000:]


def plant(mutant: Mutant, folder: Path) -> Path:
    """The package as one tree with the mutant in it; what is not changed is linked."""
    package = folder / "attnloom"
    package.mkdir()
    changed = mutant.file.split("/")[0]
    for entry in (ROOT / "src" / "attnloom").iterdir():
        (package / entry.name).symlink_to(entry)
    for name in FOLDERS - {changed}:
        (package / name).symlink_to(ROOT / name)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / changed, package / changed, ignore=ignored)
    file = package / mutant.file
    text = file.read_text(encoding="utf-8").replace(mutant.right, mutant.wrong)
    file.write_text(text, encoding="utf-8")
    return folder


def run_against(folder: Path, tests: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    """The tests against the package of a folder, up to the first that fails."""
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider", *tests],
        cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1",
             "HYPOTHESIS_STORAGE_DIRECTORY": str(folder / "hypothesis")},
    )  # fmt: skip
