"""Errors that the user can correct, and the exception that stops a computation."""

import errno
import re
from collections.abc import Iterable
from difflib import get_close_matches

SHOWN = 30  # names listed before "and more": a sentence, not a catalogue


class UsageError(Exception):
    """An error that the user can correct.

    The message is one or two sentences: what is wrong, with which value, and the way out. A page shows it
    in place; the command line prints it and exits 2. Every other exception is a defect and keeps its traceback.
    """


_FILE_SYSTEM = {  # what is wrong, and the way out
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), ("The disk is full", "Delete runs or data caches")),
    **dict.fromkeys((errno.EACCES, errno.EPERM), ("Permission is missing", "Give this user the right to it")),
    errno.EROFS: ("The disk is read-only", "Mount it writable, or choose another root (KD_LENS_ROOT)"),
    errno.EIO: ("The disk does not work", "Check it, and copy what is left"),
    errno.EFBIG: ("A file would be larger than is allowed", "Raise the limit (ulimit -f)"),
    errno.ENAMETOOLONG: ("A name is too long", "Take a shorter one"),
    errno.ELOOP: ("Links lead in a circle", "Remove one of them"),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), ("Too many files are open", "Raise the limit (ulimit -n)")),
    errno.EISDIR: ("A folder is in the place of a file", "Remove or rename it"),
    errno.ENOTDIR: ("A file is in the place of a folder", "Remove or rename it"),
}


def file_system_sentence(error: BaseException) -> str:
    """What to do about an error of the file system, in words, also about one that a library of another language reports
    in its message (`… (os error 28)`, as safetensors does); empty for any other error."""
    number = error.errno if isinstance(error, OSError) else None
    if number is None and (found := re.search(r"\bos error (\d+)\b", str(error))):
        number = int(found[1])
    if number not in _FILE_SYSTEM:
        return ""
    wrong, way_out = _FILE_SYSTEM[number]
    place = getattr(error, "filename", None)
    return f"{wrong}{f': {place}' if place else ''}. {way_out}, then try again."


class Stopped(Exception):
    """A long computation ended between two batches on request."""


def unknown(kind: str, name: object, known: Iterable[str]) -> UsageError:
    """The error for a name that is not among `known`, with the nearest spelling as a proposal."""
    names = list(known)
    near = get_close_matches(str(name), names, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return UsageError(f"Unknown {kind} {name!r}.{hint} Known: {', '.join(names[:SHOWN])}{more}.")
