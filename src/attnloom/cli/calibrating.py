"""`calibrate`: measure what the cost model needs to know of a device, and keep it."""

from __future__ import annotations

import dataclasses
from typing import Any

import click

from attnloom.cli.options import json_option
from attnloom.cli.output import Failure, print_json, print_table, say
from attnloom.compiler.calibrated import keep, path_of
from attnloom.compiler.model import CostModel

_MEANINGS = {
    "processors": "processors that work at once",
    "partial": "a tile with a mask, in full tiles",
    "gathered": "a tile whose keys are listed, in full tiles",
    "item": "starting and ending a row of tiles, in full tiles",
    "merge": "joining a partial result, in full tiles",
    "reorder": "moving a row of tiles into another order, in full tiles",
    "dense": "a tile of dense attention, in full tiles",
    "seconds_per_tile": "one processor's time for a full tile, in seconds",
}


@click.command("calibrate")
@click.option("--device", default="cpu", show_default=True, help="A device of PyTorch: cpu, cuda.")
@click.option("--dry-run", is_flag=True, help="Measure and print, keep nothing.")
@json_option
def calibrate_command(device: str, dry_run: bool, as_json: bool) -> None:
    """Measure the cost model on this machine; some seconds.

    Patterns that are compiled for this kind of device use it from then on: it decides about orders,
    lists and splits. Results do not depend on it.

    Example: attnloom calibrate --device cpu
    """
    import torch

    from attnloom.runtime.calibration import calibrate

    try:
        target = torch.device(device)
        torch.empty(0, device=target)
    except (RuntimeError, AssertionError) as error:
        raise click.UsageError(
            f"no device {device!r} here ({str(error).splitlines()[0]})"
        ) from None
    model = calibrate(target, note=lambda what: say(f"measuring {what}"))
    path = None
    if not dry_run:
        try:
            path = keep(model)
        except OSError as error:
            where = path_of(model.name)
            raise Failure(f"cannot write {str(where)!r}: {error.strerror}") from error
    if as_json:
        facts: dict[str, Any] = dataclasses.asdict(model)
        print_json({"ok": True, "diagnostics": [], "model": facts, "file": path and str(path)})
        return
    default = CostModel()
    rows = [
        [name, f"{getattr(model, name):g}", f"{getattr(default, name):g}", meaning]
        for name, meaning in _MEANINGS.items()
    ]
    print_table(["cost", model.name, "default", "what it is"], rows)
    if path is not None:
        say(f"wrote {path}")
