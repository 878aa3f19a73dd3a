"""Verbs for what there is, and for adding to it: ls, check, new."""

from mubench.cli import checks
from mubench.cli.declare import argument, verb


@verb(
    "what there is, one line each",
    "mubench ls methods",
    argument(
        "what",
        nargs="?",
        metavar="tasks|models|methods|metrics|probes|pairs|NAME",
        default="tasks",
        help="a kind, or the name of a task or method (its facts, its hyperparameters)",
    ),
)
def ls(args):
    from mubench import listing

    print(listing.show(args.what))


@verb(
    "contract test of a task, a method, a result or a submission",
    "mubench check my_method.py:MyMethod",
    argument(
        "what",
        metavar="NAME|FILE.py:CLASS|RESULT|SUBMISSION",
        help="a submission is a folder with submission.json, or a .zip of it",
    ),
    argument("--weights", action="store_true", help="predict again from a submission's weights (level re-evaluated)"),
    argument(
        "--sample",
        type=int,
        metavar="N",
        check=checks.at_least(0),
        help="so many examples of each set, drawn at random (default: 256; 0: all)",
    ),
    argument("--rerun", action="store_true", help="run again from the specs (level reproduced)"),
    argument("--record", action="store_true", help="write what was found to verified.json beside submission.json"),
    data=True,
)
def check(args):
    from mubench.leaderboard.check import check

    options = {"weights": args.weights, "rerun": args.rerun, "record": args.record}
    options |= {} if args.sample is None else {"sample": args.sample or None}
    for line in check(args.what, **options):
        print(line, flush=True)


@verb(
    "a commented starting file",
    "mubench new method my_method",
    argument("kind", choices=["task", "method"]),
    argument("name", metavar="NAME", help="snake_case; the file NAME.py is written here"),
)
def new(args):
    from mubench.new import new

    print(new(args.kind, args.name))
