"""Tables on recipes of training: `python -m benchmarks.recipes fine-tuning`; `--help` names the arguments.

Runs are trained one after the other on one thread where the store has none; what has finished is used again.
"""

import argparse
from collections.abc import Sequence

from benchmarks import recipes_fine_tuning, recipes_grid, recipes_students

COMMANDS = {"fine-tuning": recipes_fine_tuning, "students": recipes_students, "grid": recipes_grid}


def main(words: Sequence[str] | None = None) -> None:
    """Print the table that the first word names, a row as soon as it is known."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = options.add_subparsers(dest="command", required=True)
    for name, command in COMMANDS.items():
        verb = verbs.add_parser(name, description=command.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
        verb.add_argument("--root", metavar="DIR", help="Where checkpoints/ and data/ lie (default: this project).")
        command.add_arguments(verb)
    chosen = options.parse_args(words)
    for line in COMMANDS[chosen.command].lines(chosen):
        print(line, flush=True)


if __name__ == "__main__":
    main()
