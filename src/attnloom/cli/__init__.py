"""The command line: `attnloom COMMAND`. Data goes to stdout, everything else to stderr."""

from __future__ import annotations

from attnloom.cli.analyzing import analyze_command
from attnloom.cli.calibrating import calibrate_command
from attnloom.cli.checking import check_command
from attnloom.cli.comparing import compare_command, sweep_command
from attnloom.cli.compiling import compile_command
from attnloom.cli.files import fmt_command, list_command
from attnloom.cli.kernels import kernels_command
from attnloom.cli.program import Program
from attnloom.cli.running import run_command
from attnloom.cli.sharding import shard_command
from attnloom.cli.showing import show_command
from attnloom.cli.starting import new_command

program = Program(
    name="attnloom",
    commands=[
        check_command,
        fmt_command,
        list_command,
        new_command,
        show_command,
        analyze_command,
        compare_command,
        sweep_command,
        compile_command,
        run_command,
        shard_command,
        calibrate_command,
        kernels_command,
    ],
)


def main() -> None:
    """Run the command line and exit with its status."""
    program()
