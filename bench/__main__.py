"""`python -m bench [NAME] [OPTIONS]`: run one of the measurements, `cpu` unless named."""

from __future__ import annotations

import importlib
import pkgutil
import sys

import bench

NAMES = sorted(
    module.name
    for module in pkgutil.iter_modules(bench.__path__)
    if hasattr(importlib.import_module(f"bench.{module.name}"), "main")
    and module.name != "__main__"
)


def main(arguments: list[str]) -> int:
    """Run the measurement that the first word names."""
    name, *rest = (
        arguments if arguments and not arguments[0].startswith("-") else ["cpu", *arguments]
    )
    if name not in NAMES:
        print(f"there is no measurement `{name}`; there are: {', '.join(NAMES)}", file=sys.stderr)
        return 2
    status: int = importlib.import_module(f"bench.{name}").main(rest)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
