"""Errors that the user can correct, and the exception that stops a computation."""

from collections.abc import Iterable
from difflib import get_close_matches

SHOWN = 30  # names listed before "and more": a sentence, not a catalogue


class UsageError(Exception):
    """An error that the user can correct.

    The message is one or two sentences: what is wrong, with which value, and the way out. A page shows it
    in place; the command line prints it and exits 2. Every other exception is a defect and keeps its traceback.
    """


class Stopped(Exception):
    """A long computation ended between two batches on request."""


def unknown(kind: str, name: object, known: Iterable[str]) -> UsageError:
    """The error for a name that is not among `known`, with the nearest spelling as a proposal."""
    names = list(known)
    near = get_close_matches(str(name), names, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return UsageError(f"Unknown {kind} {name!r}.{hint} Known: {', '.join(names[:SHOWN])}{more}.")
