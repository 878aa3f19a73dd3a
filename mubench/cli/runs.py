"""Verbs that make runs: run, tune, ablate."""

import argparse
import os

from mubench.cli import checks
from mubench.cli.declare import ATTACK, all_fields, argument, fields, spec_options, verb
from mubench.errors import MubenchError

SEVERAL = ("model", "ratio", "seed")  # of which a grid may have many
WORKERS = argument(
    "--workers",
    type=int,
    default=1,
    metavar="N",
    check=checks.at_least(1),
    help="processes on this machine, never more than there are runs",
)


class _From(argparse.Action):
    """Names a file; task and method may come from it."""

    def __call__(self, parser, namespace, path, *_):
        namespace.sweep = path
        for place in ("task", "method"):
            namespace.actions[place].required = False


def grid_of(*without):
    """The arguments that say which runs: all that a `RunSpec` is made of but the fields ``without``."""
    return [
        argument("task", metavar="TASK", help="a task, file.py:Class, several with commas, or mini / paper / all"),
        argument("method", metavar="METHOD", help="a method, file.py:Class, several with commas, or all"),
        *all_fields(*without, many=SEVERAL),
        argument(
            "--set", nargs="+", action="extend", default=[], metavar="NAME=VALUE", help="hyperparameters of the method"
        ),
        argument("--optimizer", choices=["adamw", "adam", "sgd", "sophia"], help="the same as --set optimizer=…"),
        WORKERS,
        argument("--out", default="results", metavar="FOLDER", check=checks.out_folder),
    ]


@verb(
    "unlearn, evaluate, store: one run, or a grid where several values are given",
    "mubench run fashion salun,scrub --ratio 2 5 10 --seed 0 1 2 --workers 2",
    *grid_of(),
    argument(
        "--save-model",
        nargs="?",
        const=True,
        choices=["adapter"],
        help="keep the unlearned weights too, or of LoRA the adapter alone",
    ),
    argument(
        "--eval-every",
        type=int,
        metavar="K",
        check=checks.at_least(1),
        help="score the sets after every K steps too, off the clock, for the result's curve",
    ),
    ATTACK,
    argument("--force", action="store_true", help="run again what is done"),
    argument("--dry-run", action="store_true", help="only list the runs, and the memory they need"),
    argument(
        "--from",
        dest="sweep",
        action=_From,
        metavar="FILE.yaml",
        help="a sweep as a file: these flags by their long names, task, method",
    ),
    argument(
        "--gpu-memory",
        nargs="+",
        type=float,
        default=[24, 40, 80],
        metavar="GIB",
        check=checks.above(0),
        help="sizes of GPU that --dry-run fits runs to",
    ),
    argument(
        "--shard", action="store_true", help="processes that share a run share out its weights too, while it trains"
    ),
    argument("--ray", metavar="auto|HOST:PORT", check=checks.cluster, help="run on this Ray cluster"),
    argument(
        "--cpus-per-run",
        type=float,
        default=1,
        metavar="N",
        check=checks.above(0),
        help="what a run asks of the cluster (default: 1)",
    ),
    argument(
        "--gpus-per-run",
        type=float,
        default=0,
        metavar="N",
        check=checks.at_least(0),
        help="what a run asks of the cluster (default: 0)",
    ),
    data=True,
)
def run(args):
    from mubench.sweep import grid, progress

    for what in ("task", "method"):
        if not getattr(args, what):
            raise MubenchError(f"nothing to run: {args.sweep} names no {what}, nor does the command line")
    specs, left_out = grid.expand(args.task, args.method, args.model, args.ratio, args.seed, **spec_options(args))
    _show_left_out(left_out)
    if args.dry_run:
        from mubench.sweep import dry_run

        for text in dry_run.foretell(specs, args.out, args.gpu_memory):
            print(text, flush=True)
        return
    cluster = {"address": args.ray, "cpus": args.cpus_per_run, "gpus": args.gpus_per_run} if args.ray else None
    options = {"save_model": args.save_model, "eval_every": args.eval_every, "shard": args.shard, "attack": args.attack}
    done, before, failed = grid.sweep(specs, args.out, args.workers, args.force, cluster=cluster, **options)
    if progress.rank() == 0:
        print(f"\n{len(done)} done, {len(before)} there before, {len(failed)} failed; results in {args.out}\n")
        if done or before:
            _show_table(args.out, specs)
    if failed:
        raise MubenchError(
            f"{len(failed)} of {len(specs)} runs failed, the first, {failed[0].folder}, with:"
            f" {progress.reason(failed[0], args.out)}"
        )


@verb(
    "choose hyperparameters on validation data, then run what was chosen (with the first seed; then for all)",
    "mubench tune fashion salun,scrub --trials 20 --seed 0 1 2",
    *grid_of("trials"),
    argument(
        "--trials",
        type=int,
        default=20,
        metavar="N",
        check=checks.at_least(1),
        help="settings to try of each method, the first being its defaults (default: 20)",
    ),
    argument(
        "--budget-seconds",
        type=float,
        metavar="S",
        check=checks.above(0),
        help="begin no trial after so many seconds of trials of a method (default: no limit)",
    ),
    data=True,
)
def tune(args):
    from mubench.sweep import grid
    from mubench.sweep.tuning import tune_all

    first, options = args.seed and args.seed[:1], spec_options(args, "trials")
    specs, left_out = grid.expand(args.task, args.method, args.model, args.ratio, first, **options)
    _show_left_out(left_out)
    print()
    chosen = tune_all(specs, args.trials, args.seed or [specs[0].seed], args.budget_seconds, args.workers, args.out)
    _show_table(args.out, chosen)


@verb(
    "vary one thing: a grid with its own figure and table",
    "mubench ablate lora fashion --method salun --seed 0 1 2",
    argument(
        "kind",
        metavar="KIND",
        help=(
            "lora (share of trained parameters), curriculum, ratio (deletion capacity), scale (FLOPs, sizes), "
            "budget (work) or bias (transfer set)"
        ),
    ),
    argument("task", nargs="+", metavar="TASK", help="tasks, or mini / paper / all"),
    argument(
        "--method", nargs="+", metavar="METHOD", help="methods (default: the five that the MU-Bench paper compares)"
    ),
    *fields("model", "ratio", "unit", "seed", "limit", many=SEVERAL),
    argument(
        "--at",
        nargs="+",
        type=float,
        metavar="X",
        check=checks.above(0),
        help="levels instead of the kind's own: shares of lora, λ of curriculum, ratios",
    ),
    argument(
        "--margin",
        type=float,
        metavar="M",
        check=checks.at_least(0),
        help="of the deletion capacity: by how much the test score may fall (default: 0.02)",
    ),
    argument(
        "--eval-every",
        type=int,
        default=10,
        metavar="K",
        check=checks.at_least(1),
        help="steps between the points of curves (scale, budget; default: 10)",
    ),
    WORKERS,
    argument(
        "--out",
        default="results",
        metavar="FOLDER",
        check=checks.out_folder,
        help="where runs are kept (default: results)",
    ),
    argument(
        "--figures",
        metavar="FOLDER",
        check=checks.out_folder,
        help="where the figure and the tables go (default: figures/KIND)",
    ),
    argument("--no-run", action="store_true", help="draw from what is there, run nothing"),
    argument("--dry-run", action="store_true", help="only list the runs"),
    data=True,
)
def ablate(args):
    from mubench.leaderboard.studies import ablations

    if args.dry_run:
        _list_ablation(args)
        return
    exhibits = ablations.ablate(
        args.kind,
        args.task,
        args.method,
        models=args.model,
        ratios=args.ratio,
        seeds=args.seed,
        at=args.at,
        out=args.out,
        figures=args.figures or os.path.join("figures", args.kind),
        workers=args.workers,
        eval_every=args.eval_every,
        **({} if args.margin is None else {"margin": args.margin}),
        limit=args.limit,
        unit=args.unit,
        run=not args.no_run,
    )
    print("\n\n".join(exhibit.text() for exhibit in exhibits))
    print(f"\nwritten: {', '.join(file for exhibit in exhibits for file in exhibit.files)}")


def _list_ablation(args):
    """The runs of an ablation, and which of them are done."""
    from mubench.leaderboard.studies.ablations import specs_of
    from mubench.leaderboard.studies.kinds import varied_options
    from mubench.records.store import Store

    levels = args.kind, args.task, args.method, args.model, args.ratio, args.seed
    references, specs, left_out = specs_of(*levels, args.at, limit=args.limit, unit=args.unit)
    _show_left_out(left_out)
    store = Store(args.out)
    for spec in [*references, *specs]:
        varied = [f"{name}={value}" for name, value in varied_options(spec).items()]
        state = " done" if store.done(spec) else "to do"
        print(spec.id, state, spec.folder.parent, f"seed {spec.seed}", *varied)
    print(f"{len(references) + len(specs)} runs")


def _show_left_out(sentences):
    for sentence in sentences:
        print(f"left out: {sentence}")


def _show_table(out, specs):
    from mubench.leaderboard.board import board

    print(board([out], only=specs).text())
