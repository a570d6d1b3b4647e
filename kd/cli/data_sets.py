"""The verbs on data sets: audit."""

from argparse import Namespace

from kd import datasets
from kd.audit import report
from kd.cli.run_here import Result, compute_here
from kd.errors import UsageError
from kd.jobs.tasks import task
from kd.store.runs import Store


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
