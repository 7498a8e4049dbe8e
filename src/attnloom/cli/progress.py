"""Tells a person on stderr what takes long: nothing for what is done within a second."""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType

from attnloom.cli.output import say, seconds

PATIENCE = 1.0
"""Seconds of silence before the first word, and between two."""


class Progress:
    """A context in which `note` says what is worked out next; shown if that takes long.

    On a terminal the note stands on one line that is wiped in the end. Elsewhere each different
    note is a line, at most one a second.
    """

    def __init__(self, *, is_shown: bool = True) -> None:
        self._is_shown = is_shown
        self.prefix = ""
        self._note = ""
        self._shown = ""
        self._start = time.perf_counter()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def note(self, text: str) -> None:
        """Remember what is worked out now."""
        self._note = self.prefix + text

    def __enter__(self) -> Progress:
        if self._is_shown:
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._done.set()
        if self._is_shown:
            self._thread.join()
        if self._shown and sys.stderr.isatty():
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def _watch(self) -> None:
        while not self._done.wait(PATIENCE):
            self._show()

    def _show(self) -> None:
        note, is_terminal = self._note, sys.stderr.isatty()
        if not note or (note == self._shown and not is_terminal):
            return
        self._shown = note
        text = f"{note} ... ({seconds(time.perf_counter() - self._start)})"
        if is_terminal:
            sys.stderr.write(f"\r\x1b[K\x1b[2m{text}\x1b[0m")
            sys.stderr.flush()
        else:
            say(text)
