"""The command line: `python -m kd VERB …`."""

import os
import sys

if not __package__:  # a launcher ran the folder, as in `fabric run kd train`: Python looks for modules inside of it
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

import json

from kd.errors import UsageError, file_system_sentence
from kd.torch_utils import compute
from kd.training import distributed


def main(words: list[str] | None = None) -> int:
    """Run one command; 0 when it went well, 2 with one sentence on stderr when the user can mend it, 130 on Ctrl-C."""
    compute.wait_without_spinning()
    compute.tune_malloc()
    from kd.cli.parser import parser
    from kd.cli.verbs import as_text, run_verb
    from kd.jobs.follower import follow

    if distributed.is_worker():
        return follow()
    try:
        args = parser().parse_args(words)
        result = run_verb(args)
        return show(json.dumps(result, allow_nan=False) if args.json else as_text(result))
    except UsageError as error:
        print(f"kd: {error}", file=sys.stderr)
        return 2
    except Exception as error:
        if not (sentence := file_system_sentence(error)):
            raise
        print(f"kd: {sentence}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("kd: interrupted. python -m kd runs shows the run; python -m kd resume RUN goes on with it.",
              file=sys.stderr)
        return 130
    finally:
        distributed.release_workers()


def show(result: str) -> int:
    """Print the result; returns 0, or 141 where the program that reads it has ended, as in `kd runs | head`."""
    try:
        print(result, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python writes once more at its end
        return 141
    return 0


if __name__ == "__main__":
    sys.exit(main())
