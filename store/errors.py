"""Errors that end a run with one line for the user and an exit code."""

from __future__ import annotations


class UserError(Exception):
    """The caller's mistake: a bad flag, a missing catalog, a wrong store. Exit code 2.

    The message is one line: what was expected, what was found, what to do.
    """


class GateRefused(Exception):
    """A quality gate refused: nothing was published. Exit code 3."""


class StoreError(Exception):
    """The store could not be read or written, or does not add up. Exit code 1."""


class DamagedError(StoreError):
    """What lies in the store is cut, incomplete or not what its name says; a store out of reach is none of it."""
