"""The verb `import`."""

from argparse import Namespace

from kd.cli.progress import say
from kd.cli.run_here import Result
from kd.datasets.importing.preview import ImportOptions, Preview
from kd.errors import UsageError
from kd.progress import ProgressCallback
from kd.store.runs import Store

_SAID = 5  # files that cannot be used and are named


def import_data(args: Namespace, store: Store) -> Result:
    """Show what a source is, and write it as a named set unless `--dry-run`."""
    from kd.datasets.importing.run import import_set
    from kd.datasets.importing.understand import understand

    options = ImportOptions(args.labels, tuple(args.without), args.folder, args.test, args.val, args.resplit,
                            renamed(args.rename), args.window, args.plane, args.every)
    if args.dry_run:
        found = understand(args.source, options, store.paths)
        _say(found)
        return found.describe()
    if not args.name:
        raise UsageError("Give the new set a name (--name NAME), or --dry-run to only look.")
    place, found = import_set(args.source, args.name, options, store.paths, shares())
    _say(found)
    say(f"Written: {place}")
    return {"reference": args.name, "path": str(place), **found.describe()}


def shares() -> ProgressCallback:
    """Progress that prints each phase and its tenths, once each."""
    seen: set[tuple[str, int]] = set()

    def report(phase: str, share: float) -> None:
        if (key := (phase, int(10 * share))) not in seen:
            seen.add(key)
            say(f"  {phase} {100 * share:.0f} %")

    return report


def renamed(pairs: list[str]) -> dict[str, str]:
    """New names by old ones, from texts like `old=new`. Raises UsageError."""
    wrong = [pair for pair in pairs if "=" not in pair]
    if wrong:
        raise UsageError(f"--rename takes OLD=NEW, not {wrong[0]!r}.")
    return dict(pair.split("=", 1) for pair in pairs)


def _say(found: Preview) -> None:
    for note in found.notes:
        say(note)
    for warning in found.warnings:
        say(f"Warning: {warning}")
    for bad in found.skipped[:_SAID]:
        say(f"Skipped {bad.name}: {bad.reason}")
    if len(found.skipped) > _SAID:
        say(f"… and {len(found.skipped) - _SAID} more that cannot be used")
