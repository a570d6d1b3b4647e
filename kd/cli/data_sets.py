"""The verbs on data sets: list, audit and repair."""

from argparse import Namespace
from pathlib import Path

from kd import datasets
from kd.audit import report
from kd.cli.importing import renamed, shares
from kd.cli.progress import say
from kd.cli.run_here import Result, compute_here
from kd.errors import UsageError
from kd.jobs.tasks import task
from kd.store.quota import GB
from kd.store.runs import Store


def list_datasets(args: Namespace, store: Store) -> Result:
    from kd.datasets import cache
    from kd.datasets.importing.archives import remove_unpacked

    if args.clear_cache:
        cleared = cache.clear(store.paths)
        removed = cleared.removed + remove_unpacked(store.paths)
        say(f"Decoded images: {removed / GB:.3g} GB removed, {cleared.in_use / GB:.3g} GB in use stay")
    used, allowed = cache.cached_bytes(store.paths), cache.quota()
    found = {"datasets": [{"reference": entry.reference, "title": entry.title, "kind": entry.kind}
                          for entry in datasets.available(store.paths)]}
    if args.json:
        return {**found, "decoded_cache": {"bytes": used, "quota": allowed}}
    say(f"Decoded images take {used / GB:.3g} GB of {allowed / GB:.3g} GB")
    return found


def audit(args: Namespace, store: Store) -> Result:
    """The report on a data set, computed now or before."""
    data = datasets.inspect(args.data, store.paths)
    found = None if args.again else report.load(data.fingerprint, store.paths)
    if found is None:
        owner = report.owner(data.fingerprint, f"the data set {data.reference}", store.paths)
        compute_here(task(owner, "audit"), store, {"data": data.reference})
        found = report.load(data.fingerprint, store.paths)
    if found is None:
        raise UsageError(f"{data.reference} was changed while it was audited: audit it again when its files are "
                         "settled.")
    return found.to_json() if args.json else {"report": report.as_text(found)}


def repair(args: Namespace, store: Store) -> Result:
    """A new named set, repaired from another; what was done goes to stderr."""
    from kd.audit.repair import Repair, repair

    wanted = Repair(_listed(args.exclude), args.drop_copies, renamed(args.rename), args.split, args.test, args.val)
    place, found = repair(args.data, args.name, wanted, store.paths, shares())
    for sentence in found.done:
        say(sentence)
    say(f"Written: {place}. See what is left to find: python -m kd audit {args.name}")
    return {"reference": args.name, "path": str(place), "images": len(found.images), "done": list(found.done)}


def _listed(file: str | None) -> tuple[str, ...]:
    """Names of images in a text file, one a line."""
    if file is None:
        return ()
    try:
        lines = Path(file).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"The list {file} cannot be read ({error}): write a name a line, as UTF-8.") from error
    return tuple(line.strip() for line in lines if line.strip())
