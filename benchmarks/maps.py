"""Tables on maps: where they lie, where they point (beside maps of the image alone), the need of evidence,
and where the masks of masked students point.

`python -m benchmarks.maps placement` needs no runs; `… agreement`, `… teacher-maps`, `… evidence` and `… masks` are of
trained runs in a store. `--help` names their arguments.
"""

import argparse
from collections.abc import Sequence

from benchmarks import maps_agreement, maps_evidence, maps_masks, maps_placement, maps_teacher

COMMANDS = {"placement": maps_placement, "agreement": maps_agreement, "teacher-maps": maps_teacher,
            "evidence": maps_evidence, "masks": maps_masks}


def main(words: Sequence[str] | None = None) -> None:
    """Print the table that the first word names."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = options.add_subparsers(dest="command", required=True)
    for name, command in COMMANDS.items():
        verb = verbs.add_parser(name, description=command.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
        verb.add_argument("--root", metavar="DIR", help="Where checkpoints/ and data/ lie (default: this project).")
        verb.add_argument("--run", nargs="+", default=[], metavar="ID", help="Runs (default: all that fit).")
        verb.add_argument("--data", nargs="+", default=[], metavar="PATH", help="Only runs trained on these data sets.")
        command.add_arguments(verb)
    chosen = options.parse_args(words)
    print("\n".join(COMMANDS[chosen.command].lines(chosen)))


if __name__ == "__main__":
    main()
