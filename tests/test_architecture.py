"""The layer rule: data flows one way, and so do imports."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("grammar", "compiler", "runtime", "patterns")


def modules() -> Iterator[tuple[str, Path]]:
    """Every module of the package: its import name and its file."""
    for folder, package in (("src/attnloom", "attnloom"), *((f, f"attnloom.{f}") for f in FOLDERS)):
        for path in sorted((ROOT / folder).rglob("*.py")):
            inside = path.relative_to(ROOT / folder).with_suffix("").parts
            name = ".".join((package, *(part for part in inside if part != "__init__")))
            yield name, path


def imports(path: Path) -> set[str]:
    """The modules that a file imports anywhere, also inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            module = node.module or ""
            found.update(f"{module}.{alias.name}" for alias in node.names)
    return found


MODULES = dict(modules())


def within(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def importers(package: str) -> set[str]:
    """Our modules that import a package or something of it."""
    return {
        name
        for name, path in MODULES.items()
        if any(within(imported, package) for imported in imports(path))
    }


def ours(layer: str) -> dict[str, set[str]]:
    """For each module of a layer, what it imports of this project."""
    return {
        name: {imported for imported in imports(path) if within(imported, "attnloom")}
        for name, path in MODULES.items()
        if within(name, layer)
    }


@pytest.mark.parametrize(
    ("layer", "allowed"),
    [
        ("attnloom.grammar", ("attnloom.grammar",)),
        ("attnloom.compiler", ("attnloom.compiler", "attnloom.grammar")),
        ("attnloom.runtime", ("attnloom.runtime", "attnloom.compiler", "attnloom.grammar")),
    ],
)
def test_layer_imports_only_what_lies_below_it(layer: str, allowed: tuple[str, ...]) -> None:
    for name, imported in ours(layer).items():
        wrong = {module for module in imported if not within(module, *allowed)}
        assert not wrong, f"{name} imports {sorted(wrong)}"


@pytest.mark.parametrize(
    ("package", "homes"),
    [
        (
            "torch",
            (
                "attnloom.runtime",
                "attnloom.nn",
                "attnloom.integrations",
                *(f"attnloom.cli.{name}" for name in ("running", "oracle", "calibrating")),
                "attnloom.testing.execution",
            ),
        ),
        ("triton", ("attnloom.runtime.backends.triton", "attnloom.runtime.kernels")),
        ("networkx", ("attnloom.compiler.analysis",)),
        ("hypothesis", ("attnloom.testing",)),
        ("transformers", ("attnloom.integrations.transformers",)),
        ("pytest", ("attnloom.testing.pytest_plugin",)),
        ("matplotlib", ("attnloom.render",)),
        ("rich", ("attnloom.cli",)),
        ("click", ("attnloom.cli",)),
        ("lark", ("attnloom.grammar",)),
    ],
)
def test_library_is_imported_only_at_home(package: str, homes: tuple[str, ...]) -> None:
    astray = {name for name in importers(package) if not within(name, *homes)}
    # The door hands runtime objects through; it names torch for the type checker alone.
    allowed = {name for name in astray if package == "torch" and name == "attnloom.pattern"}
    assert not astray - allowed


@pytest.mark.parametrize("folder", FOLDERS)
def test_nothing_imports_a_folder_by_its_bare_name(folder: str) -> None:
    assert not importers(folder)
    tests = {path for path in (ROOT / "tests").rglob("*.py") if folder_of(imports(path), folder)}
    assert not tests


def folder_of(imported: set[str], folder: str) -> bool:
    return any(within(name, folder) for name in imported)


def test_no_folder_is_loaded_twice() -> None:
    assert not set(FOLDERS) & set(sys.modules)


def test_importing_the_package_loads_no_heavy_library() -> None:
    heavy = ("torch", "transformers", "triton", "networkx", "matplotlib", "hypothesis", "scipy")
    code = f"import sys, attnloom; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT / "tests"
    )
    assert done.stdout.strip() == "[]"


def test_every_folder_with_code_is_packaged() -> None:
    import tomllib

    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    packages = settings["tool"]["setuptools"]["packages"]
    holding = {name for name, path in MODULES.items() if path.name == "__init__.py"}
    holding |= {name.rpartition(".")[0] for name in MODULES if "." in name}
    assert sorted(holding) == sorted(packages)
