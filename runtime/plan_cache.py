"""Plans kept on disk, found again by what they compute."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from attnloom.runtime.plan_file import FORMAT, PlanFileError, read_plans, write_plans

if TYPE_CHECKING:
    import torch

    from attnloom.runtime.plan_stack import PlanStack

_MOST_BYTES = 2 << 30
_SUFFIX = ".safetensors"


def user_folder() -> Path:
    """Where plans are kept for a user: `$XDG_CACHE_HOME/attnloom/plans`, or below `~/.cache`."""
    home = os.environ.get("XDG_CACHE_HOME")
    base = Path(home) if home and Path(home).is_absolute() else Path.home() / ".cache"
    return base / "attnloom" / "plans"


@dataclass(frozen=True)
class PlanCache:
    """A folder of plans. Any number of processes may use it at once.

    Files appear whole or not at all, and are checked as they are read: a damaged one counts as
    missing. When they take more than `most_bytes`, those go that were not used for longest.
    """

    folder: Path
    most_bytes: int = _MOST_BYTES

    @classmethod
    def of(cls, cache: bool | str | os.PathLike[str]) -> PlanCache | None:
        """The cache that a caller asks for: `True`, `False`, or a folder.

        Raises:
            TypeError: it is something else.
        """
        if isinstance(cache, bool):
            return cls(user_folder()) if cache else None
        if not isinstance(cache, (str, os.PathLike)):
            raise TypeError(f"cache must be True, False or a folder, got {type(cache).__name__}")
        return cls(Path(cache))

    def path(self, key: str) -> Path:
        """The file of a key, which is hexadecimal; it names the version that wrote it as well."""
        return self.folder / f"{key}-{version('attnloom')}-{FORMAT}{_SUFFIX}"

    def get(
        self, key: str, device: torch.device | str, description: Mapping[str, object]
    ) -> PlanStack | None:
        """The plans kept under a key, described anew, or `None`."""
        path = self.path(key)
        try:
            found = read_plans(path, device=device, key=key, description=description)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except PlanFileError:
            path.unlink(missing_ok=True)
            return None
        except OSError as error:
            _warn("read", path, error)
            return None
        # Used now; unless another process has removed it, or the folder is not ours.
        with suppress(OSError):
            os.utime(path)
        return found

    def put(self, key: str, stack: PlanStack) -> None:
        """Keep plans; where that is not possible, say so and go on."""
        path = self.path(key)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_plans(stack, path, key=key)
            self._prune(keep=path)
        except OSError as error:
            _warn("write", path, error)

    def _prune(self, keep: Path) -> None:
        files = []
        for path in self.folder.glob(f"*{_SUFFIX}"):
            try:
                facts = path.stat()
            except FileNotFoundError:
                continue
            files.append((path == keep, facts.st_mtime, facts.st_size, path))
        total = 0
        for is_kept, _, size, path in sorted(files, reverse=True):
            total += size
            if total > self.most_bytes and not is_kept:
                path.unlink(missing_ok=True)


def _warn(verb: str, path: Path, error: OSError) -> None:
    warnings.warn(f"cannot {verb} the plan {str(path)!r}: {error.strerror}", stacklevel=4)
