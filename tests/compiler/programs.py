"""The random programs of `attnloom.testing`, now and then with a position that is not there."""

from functools import partial

from attnloom.testing import programs as testing
from attnloom.testing.programs import Program

programs = partial(testing.programs, has_faults=True)

__all__ = ["Program", "programs"]
