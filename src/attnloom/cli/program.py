"""The command group: what every command shares from start to exit status."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import click

from attnloom import PatternError
from attnloom.cli.output import print_diagnostics, print_json

OK, FAILED, INTERRUPTED = 0, 1, 130


class Program(click.Group):
    """The group of all commands.

    Exit status: 0 when all is well; 1 when a pattern has errors or a check failed; 2 when the
    command line is wrong; 130 after Ctrl-C. With `--json`, errors too are one object on stdout.
    """

    def __init__(self, name: str, commands: Sequence[click.Command]) -> None:
        super().__init__(
            name=name,
            commands=commands,
            help=_HELP,
            epilog=_EPILOG,
            context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 96},
            params=[_version_option()],
        )

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order of their first use, not of the alphabet."""
        return list(self.commands)

    def main(self, *args: Any, **extra: Any) -> NoReturn:
        """Run one command line and exit. Click's own entry, with our errors and exit status."""
        words = list(extra.get("args") or (args[0] if args else None) or sys.argv[1:])
        sys.exit(_guarded(lambda: super(Program, self).main(*args, **_plain(extra)), words))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or suggest one."""
        from attnloom.cli.options import did_you_mean

        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            hint = did_you_mean(args[0], self.list_commands(ctx))
            raise click.UsageError(f"No such command '{args[0]}'.{hint}", ctx) from error


def _plain(extra: dict[str, Any]) -> dict[str, Any]:
    return {**extra, "standalone_mode": False}


def _guarded(run: Callable[[], object], words: Sequence[str]) -> int:
    """Run a command and turn whatever it raises into messages and an exit status."""
    as_json = "--json" in words
    try:
        status = run()
    except click.exceptions.Abort:
        click.echo("interrupted", err=True)
        return INTERRUPTED
    except PatternError as error:
        if as_json:
            print_json({"ok": False, "diagnostics": error.diagnostics})
        else:
            print_diagnostics(error.diagnostics)
        return FAILED
    except click.ClickException as error:
        return _report(error, as_json)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _report(click.ClickException(f"{where}{error.strerror or error}"), as_json)
    return status if isinstance(status, int) else OK


def _report(error: click.ClickException, as_json: bool) -> int:
    if as_json:
        slug = "usage" if isinstance(error, click.UsageError) else "failed"
        found = {"slug": slug, "message": error.format_message()}
        print_json({"ok": False, "diagnostics": [found]})
    else:
        error.show()
    return error.exit_code


def _version_option() -> click.Option:
    def show(context: click.Context, _: click.Parameter, wanted: bool) -> None:
        if wanted and not context.resilient_parsing:
            from importlib.metadata import version

            click.echo(f"attnloom {version('attnloom')}")
            context.exit()

    return click.Option(
        ["--version"],
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=show,
        help="Show the version and exit.",
    )


_HELP = """\
Attention patterns: check, show, compile and run them.

FILE is the path of a .attn file, the name of a bundled pattern (see `attnloom list`), or - for
standard input.
"""

_EPILOG = """\
\b
Exit status: 0 ok, 1 the pattern has errors or a check failed, 2 wrong usage.
Example: attnloom run longformer -n 4096 --check
"""
