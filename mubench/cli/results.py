"""Verbs for what was measured: evaluate, score, submit, board, report."""

from mubench.cli import checks
from mubench.cli.declare import ATTACK, argument, fields, picked, verb
from mubench.errors import MubenchError


@verb(
    "measure weights that any code has unlearned",
    "mubench evaluate fashion path/to/checkpoint --ratio 5",
    argument("task", metavar="TASK"),
    argument(
        "checkpoint",
        metavar="CHECKPOINT",
        check=checks.checkpoint,
        help="a folder with model.safetensors and config.json, or with wrapper.json, or a hub id",
    ),
    *fields("model", "ratio", "split_file", "seed", "limit"),
    *fields("unit"),
    argument("--name", metavar="NAME", help="what to call the code that made them: with --out, recorded like a run"),
    argument("--out", metavar="FOLDER", check=checks.out_folder, help="of results"),
    argument(
        "--seconds", type=float, metavar="S", check=checks.at_least(0), help="what unlearning took on this machine"
    ),
    argument("--paper", default="", metavar="TEXT", help="where that code is described"),
    argument("--save-model", action="store_true", help="keep the weights with the result"),
    ATTACK,
    data=True,
)
def evaluate(args):
    from mubench.api import evaluate
    from mubench.measure.probes.base import ProbeFailed

    rows = picked(args, "model", "ratio", "unit", "split_file", "seed", "limit")
    record = picked(args, "name", "out", "seconds", "paper", "save_model")
    try:
        values = evaluate(args.task, args.checkpoint, **rows, **record, attack=args.attack)
    except ProbeFailed as error:
        _print_metrics(error.result.metrics)
        raise
    _print_metrics(values)


@verb(
    "recompute every metric of stored results from their predictions",
    "mubench score results/fashion/resnet/salun/5/0123456789ab",
    argument("result", nargs="+", metavar="RESULT", check=checks.results, help="result folders, or folders of results"),
    argument(
        "--retrain",
        nargs="+",
        metavar="RESULT",
        check=checks.existing_folder,
        help="results of retraining, first the one that distances are to",
    ),
    argument(
        "--original",
        nargs="+",
        metavar="RESULT",
        check=checks.existing_folder,
        help="results of the original, for metrics that look at it",
    ),
)
def score(args):
    from mubench.records.predictions import score
    from mubench.records.store import Store

    folders = [folder for given in args.result for folder in Store(given).results()]
    if not folders:
        raise MubenchError(f"no results below {', '.join(args.result)}")
    for folder in folders:
        print(folder)
        _print_metrics(score(folder, args.retrain, original=args.original))


def _print_metrics(values):
    for name, value in values.items():
        print(f"  {name:20} {'undefined' if value is None else format(value, '.4f')}")


@verb(
    "check results and pack them for the leaderboard",
    "mubench submit results --name My-Method --paper https://arxiv.org/abs/2406.14796 --out leaderboard/submissions",
    argument(
        "results",
        nargs="+",
        metavar="RESULT",
        check=checks.results,
        help="result folders, or folders of results, of one method",
    ),
    argument("--name", required=True, metavar="TEXT", help="the method's, as its authors write it"),
    argument("--description", default="", metavar="TEXT"),
    argument("--paper", metavar="URL"),
    argument("--code", metavar="URL"),
    argument("--contact", metavar="TEXT"),
    argument(
        "--taxonomy",
        nargs=5,
        metavar=("FORGET", "CORRUPTION", "RETAIN", "PARAMETERS", "SCHEDULE"),
        help=(
            'its row of `mubench ls methods` (default: as the results say), such as Loss Grad - "dense internal" joint'
        ),
    ),
    argument(
        "--trials",
        type=int,
        metavar="N",
        check=checks.at_least(0),
        help="settings tried on validation data, for each task and model (default: as the results say)",
    ),
    argument("--budget", default="", metavar="TEXT", help="of one trial, in words"),
    argument(
        "--weights",
        metavar="REPO@COMMIT|local",
        help=(
            "where on the hub the weights are, a folder for each result's id; local: pack those saved with the results"
        ),
    ),
    argument(
        "--out",
        metavar="FOLDER|FILE.zip",
        check=checks.out_folder_or_zip,
        help="where to put its folder (default: here)",
    ),
    argument("--push-to-hub", metavar="REPO", help="send it to a dataset repository on the hub"),
)
def submit(args):
    from mubench.leaderboard.submission import submit

    about = picked(args, "description", "paper", "code", "contact", "taxonomy", "trials", "budget")
    for line in submit(args.results, args.name, **about, **picked(args, "weights", "out", "push_to_hub")):
        print(line, flush=True)


@verb(
    "aggregate results into tables and a site",
    "mubench board results --out tables --site www",
    argument(
        "results",
        nargs="*",
        default=["results"],
        metavar="RESULTS",
        check=checks.results,
        help="folders of results or submissions",
    ),
    argument(
        "--out",
        metavar="FOLDER",
        check=checks.out_folder,
        help="write the tables there: README.md, CSV, JSON, LaTeX, Parquet",
    ),
    argument(
        "--site",
        metavar="FOLDER",
        check=checks.out_folder,
        help="write a static site there; index.html opens from the disk",
    ),
    argument("--serve", action="store_true", help="show the site on this machine until Ctrl-C"),
    argument(
        "--port",
        type=int,
        default=8000,
        metavar="N",
        check=checks.at_least(1, 65535),
        help="of --serve (default: 8000)",
    ),
)
def board(args):
    from mubench.leaderboard.board import board

    table = board(args.results, args.out)
    print(table.text())
    if args.out:
        print(f"\nwritten: {', '.join(table.files)}")
    if args.site or args.serve:
        from mubench.leaderboard import site

        if args.serve:
            site.serve(table, args.site, args.port)
        else:
            print(f"\nwritten: {site.write_site(table, args.site)}")


@verb(
    "one run as a self-contained page, or the MU-Bench paper from all results",
    "mubench report results/fashion/resnet/salun/5/0123456789ab\nexample: mubench report --paper results --out paper",
    argument(
        "run",
        nargs="+",
        metavar="RUN",
        check=checks.results,
        help="a result's folder; with --paper folders of results, or runs.parquet of `mubench board --out FOLDER`",
    ),
    argument(
        "--paper",
        action="store_true",
        help="every table and figure of the MU-Bench paper, next to the published values",
    ),
    argument(
        "--out",
        metavar="FILE",
        check=checks.out_below,
        help="the page (default: report.html in the folder), or the folder of --paper (default: paper)",
    ),
    argument(
        "--references",
        nargs="+",
        metavar="RESULTS",
        check=checks.results,
        help="where original and retrain are looked for (default: the run's own store)",
    ),
)
def report(args):
    if args.paper:
        from mubench.leaderboard.studies.paper.report import paper

        print(paper(args.run, args.out or "paper"))
        return
    from mubench.leaderboard.report import report

    if len(args.run) > 1:
        raise MubenchError(f"{len(args.run)} runs: a page is of one; give one, or --paper for all results")
    print(report(args.run[0], args.out, args.references))
