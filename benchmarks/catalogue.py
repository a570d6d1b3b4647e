"""Which of timm's networks the product takes, at which image sizes, and why it refuses the others.

Every architecture is built on the meta device and given images of two sizes, and where one of them fails of all sizes.
`--write` renews `kd/models/catalogue.txt`, for a new version of timm. Seconds: of this run.
"""

import argparse
import sys
import time
from collections import Counter

import timm
import torch

from benchmarks.maps_runs import table
from kd.errors import UsageError
from kd.models.catalogue import ANY, FILE
from kd.models.factory import SIZES, fitting_sizes
from kd.models.timm_info import timm_info

TRIED = (96, 224)


def sizes_of(name: str) -> tuple[int, ...] | None:
    """The sizes that a network takes, empty for any; None where it takes none. Raises UsageError where its last
    features are no map."""
    timm_info(name)
    found = fitting_sizes(name, TRIED)
    return () if found == TRIED else fitting_sizes(name, SIZES) or None


def main() -> None:
    """The table, and the file where it is wanted."""
    options = _options()
    torch.set_num_threads(1)
    began, found, refused = time.perf_counter(), {}, Counter()
    for name in timm.list_models(options.filter):
        try:
            sizes = sizes_of(name)
            if sizes is not None:
                found[name] = sizes
            else:
                refused["no size works"] += 1
        except UsageError as error:
            refused[str(error).split(": ", 1)[-1].split(". ")[0]] += 1
        print(".", end="", file=sys.stderr, flush=True)
    rows = [("used at any size", sum(not sizes for sizes in found.values())),
            ("used at some sizes", sum(bool(sizes) for sizes in found.values())),
            *((f"refused: {reason}", count) for reason, count in refused.most_common())]
    for line in table(("networks of timm " + timm.__version__, "number"), [(what, str(count)) for what, count in rows]):
        print(line)
    print(f"\n{time.perf_counter() - began:.0f} s")
    if options.write:
        FILE.write_text(f"# By benchmarks.catalogue --write, with timm {timm.__version__}: names and image sizes.\n" +
                        "".join(f"{name} {' '.join(map(str, sizes)) or ANY}\n" for name, sizes in found.items()))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--filter", default="", help="Only names that match this pattern, such as 'resnet*'.")
    parser.add_argument("--write", action="store_true", help="Renew the catalogue's file.")
    return parser.parse_args()


if __name__ == "__main__":
    main()
