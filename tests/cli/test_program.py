"""What every command shares: help, exit status, streams, and what is imported."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from attnloom.cli import program

COMMANDS = list(program.commands)
HERE = Path(__file__).parent


def attnloom_process(*words: str, **options: object) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    code = "from attnloom.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *words],
        capture_output=True, text=True, encoding="utf-8", cwd=HERE, timeout=120, **options,
    )  # fmt: skip


def test_help_without_a_command_lists_all(run) -> None:
    text = run("--help").stdout
    assert all(name in text for name in COMMANDS)
    assert "Exit status" in text


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(run, command: str) -> None:
    text = run(command, "--help").stdout
    assert f"Example: attnloom {command}" in text


def test_version_is_that_of_the_package(run) -> None:
    from importlib.metadata import version

    assert run("--version").stdout == f"attnloom {version('attnloom')}\n"


@pytest.mark.parametrize("words", [["fly"], ["check"], ["show", "--wide"], ["show", "a", "b"]])
def test_wrong_usage_exits_2_and_says_so_in_json_too(run, run_json, words: list[str]) -> None:
    assert run(*words, status=2).stdout == ""
    assert run_json(*words, status=2)["diagnostics"][0]["slug"] == "usage"


@pytest.mark.parametrize(
    "words",
    [
        ["check", "longformer"],
        ["fmt", "--check", "-"],
        ["list"],
        ["show", "longformer", "-n", "5000"],
        ["compile", "longformer", "-n", "1000", "--emit", "blocks", "--json"],
    ],
    ids=lambda words: words[0],
)
def test_only_run_imports_torch(words: list[str]) -> None:
    code = (
        "import sys\n"
        "from attnloom.cli import program\n"
        "try:\n    program(sys.argv[1:])\n"
        "except SystemExit as end:\n    assert not end.code, end.code\n"
        "print([m for m in ('torch', 'networkx', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        input="pattern p {\n    full\n}\n", capture_output=True, text=True, encoding="utf-8",
        cwd=HERE, check=False,
    )  # fmt: skip
    assert done.stdout.endswith("[]\n"), done.stderr


def test_no_colour_where_there_is_no_terminal() -> None:
    done = attnloom_process("check", "-", input="pattern p { windw }")
    assert done.returncode == 1
    assert "\x1b" not in done.stdout + done.stderr


def test_json_stdout_stays_clean_in_a_process() -> None:
    done = attnloom_process("compile", "longformer", "-n", "512", "--json")
    assert json.loads(done.stdout)["ok"] is True
    assert done.stderr == ""


def test_streams_that_cannot_draw_get_ascii() -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = attnloom_process("show", "local", "-n", "300", env=environment)
    assert done.returncode == 0
    assert done.stdout.isascii()
    assert "##" in done.stdout


@pytest.mark.skipif(os.name == "nt", reason="signals and pipes of POSIX")
def test_closed_pipe_is_quiet() -> None:
    code = "from attnloom.cli import main; main()"
    with subprocess.Popen(
        [sys.executable, "-c", code, "compile", "bert", "-n", "20000", "--emit", "blocks"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=HERE,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""


@pytest.mark.skipif(os.name == "nt", reason="signals and pipes of POSIX")
def test_interrupt_exits_130_without_a_traceback() -> None:
    code = (
        "import signal, attnloom.cli.checking as checking\n"
        "from attnloom.cli import main\n"
        # Where tests run in the background, the signal may be ignored.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "checking.load_pattern = lambda *_: signal.raise_signal(signal.SIGINT)\n"
        "main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "check", "longformer"],
        capture_output=True, text=True, cwd=HERE, check=False,
    )  # fmt: skip
    assert done.returncode == 128 + signal.SIGINT
    assert "Traceback" not in done.stderr
