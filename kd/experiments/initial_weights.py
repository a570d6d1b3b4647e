"""Starting weights of a model, from how a person names them to the fields of a spec."""

from pathlib import Path
from typing import Any

from kd.errors import UsageError
from kd.spec import OF_RUN
from kd.store.runs import Store


def initial_weights(source: str, store: Store) -> dict[str, Any]:
    """Spec fields of initial weights: `none`, `hub`, `run:ID`, or a file with its digest. Raises UsageError where there
    is no such run or file."""
    from kd.models import weights, weights_files

    if source in ("none", "hub"):
        return {"pretrained": source}
    if source.startswith(OF_RUN):
        return {"pretrained": OF_RUN + store[source.removeprefix(OF_RUN)].id}
    path = Path(source).expanduser().resolve()
    weights_files.require_suffix(path)
    return {"pretrained": str(path), "pretrained_fingerprint": weights.fingerprint(path)}


def plain_weights(source: str, store: Store) -> dict[str, Any]:
    """As `initial_weights`, for a plain network: raises UsageError also where there are no such weights of one."""
    if source in ("hub", "teacher"):
        raise UsageError(f"A plain network cannot start from {source!r}: there are no such weights of it. Start from "
                         "none, or from the weights file of a run of the same plain network.")
    return initial_weights(source, store)
