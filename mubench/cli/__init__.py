"""The command line: each verb is one public function. Nothing is imported before it is needed."""

import argparse
import os
import sys
import typing

from mubench.errors import MubenchError

EPILOG = "Every verb has an example in `mubench VERB --help`."


def main(argv=None):
    """Run a command line; exits 0 when done, 1 with one sentence on an error, 2 on wrong usage, 130 on Ctrl-C."""
    args = parser().parse_args(argv)
    try:
        if getattr(args, "sweep", None):
            from mubench.sweep import sweep_file

            args = parser(sweep_file.read(args.sweep, args.parser)).parse_args(argv)
        _quiet(args)
        if getattr(args, "data_dir", None):
            os.environ["MUBENCH_DATA"] = args.data_dir  # inherited by workers
        args.function(args)
        sys.stdout.flush()
    except MubenchError as error:
        if args.debug:
            raise
        sys.exit(f"mubench: {error}")
    except KeyboardInterrupt:
        if args.debug:
            raise
        print("\nmubench: interrupted; what was finished is kept, the same command goes on from there", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
    except Exception as error:
        if args.debug:
            raise
        sys.exit(
            f"mubench: {type(error).__name__}: {str(error).strip() or 'no message'} (an error of mubench or of a"
            " plug-in, not yours: --debug shows where)"
        )


def parser(sweep=None):
    """The whole command line; ``sweep``: values that take the place of `mubench run`'s defaults."""
    from mubench.spec import RunSpec

    top = argparse.ArgumentParser(
        prog="mubench", description="The benchmark suite for machine unlearning.", epilog=EPILOG
    )
    top.add_argument("--version", action=_Version)
    verbs = top.add_subparsers(metavar="VERB", required=True)

    def verb(name, function, about, example):
        p = verbs.add_parser(
            name,
            help=about,
            description=about,
            epilog=f"example: {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        p.add_argument("--debug", action="store_true", help="show tracebacks and library warnings")
        if name in ("run", "tune", "fetch", "evaluate", "split", "original", "check", "ablate"):
            p.add_argument(
                "--data-dir",
                metavar="FOLDER",
                help=(
                    "where the original archives of paper tasks are unpacked, in FOLDER or FOLDER/TASK ($MUBENCH_DATA)"
                ),
            )
        p.set_defaults(function=function)
        return p

    p = verb("ls", _ls, "what there is, one line each", "mubench ls methods")
    p.add_argument(
        "what",
        nargs="?",
        metavar="tasks|models|methods|metrics|pairs|NAME",
        default="tasks",
        help="a kind, or the name of a task or method (its facts, its hyperparameters)",
    )

    def options(p, *names, many=()):
        """Flags for fields of `RunSpec` (default: all that are no places): names, types, choices and help are its
        own.
        """
        for name, field in RunSpec.model_fields.items():
            if (
                name in names
                or not names
                and name not in ("task", "method", "params", *["trials"] * p.prog.endswith(" tune"))
            ):
                kinds = [
                    kind
                    for kind in (
                        typing.get_args(field.annotation)
                        if typing.get_origin(field.annotation) is typing.Union
                        else [field.annotation]
                    )
                    if kind is not type(None)
                ]
                choices = (
                    typing.get_args(kinds[0])
                    if len(kinds) == 1 and typing.get_origin(kinds[0]) is typing.Literal
                    else None
                )
                default = "its first" if name == "model" else None if field.is_required() else field.default
                about = field.description + (f" (default: {default})" if default is not None else "")
                p.add_argument(
                    f"--{name.replace('_', '-')}",
                    nargs="+" if name in many else None,
                    choices=choices,
                    help=about.replace("%", "%%"),
                    type=kinds[0] if kinds in ([int], [float]) else str,
                    metavar=None if choices else name.rpartition("_")[2].upper(),
                )

    def run_verb(*texts):
        """A verb that makes runs, and the arguments that say which."""
        p = verb(*texts)
        p.add_argument("task", metavar="TASK", help="a task, file.py:Class, several with commas, or mini / paper / all")
        p.add_argument("method", metavar="METHOD", help="a method, file.py:Class, several with commas, or all")
        options(p, many=("model", "ratio", "seed"))
        p.add_argument(
            "--set", nargs="+", action="extend", default=[], metavar="NAME=VALUE", help="hyperparameters of the method"
        )
        p.add_argument("--optimizer", choices=["adamw", "adam", "sgd", "sophia"], help="the same as --set optimizer=…")
        p.add_argument("--workers", type=int, default=1, metavar="N", help="processes on this machine")
        p.add_argument("--out", default="results", metavar="FOLDER")
        return p

    p = run_verb(
        "run",
        _run,
        "unlearn, evaluate, store: one run, or a grid where several values are given",
        "mubench run fashion salun,scrub --ratio 2 5 10 --seed 0 1 2 --workers 2",
    )
    p.add_argument(
        "--save-model",
        nargs="?",
        const=True,
        choices=["adapter"],
        help="keep the unlearned weights too, or of LoRA the adapter alone",
    )
    p.add_argument(
        "--eval-every",
        type=int,
        metavar="K",
        help="score the sets after every K steps too, off the clock, for the result's curve",
    )
    p.add_argument("--force", action="store_true", help="run again what is done")
    p.add_argument("--dry-run", action="store_true", help="only list the runs, and the memory they need")
    p.add_argument(
        "--from",
        dest="sweep",
        action=_From,
        metavar="FILE.yaml",
        help="a sweep as a file: these flags by their long names, task, method",
    )
    p.add_argument(
        "--gpu-memory",
        nargs="+",
        type=float,
        default=[24, 40, 80],
        metavar="GIB",
        help="sizes of GPU that --dry-run fits runs to",
    )
    p.add_argument("--ray", metavar="auto|HOST:PORT", help="run on this Ray cluster")
    p.add_argument(
        "--cpus-per-run", type=float, default=1, metavar="N", help="what a run asks of the cluster (default: 1)"
    )
    p.add_argument(
        "--gpus-per-run", type=float, default=0, metavar="N", help="what a run asks of the cluster (default: 0)"
    )
    p.set_defaults(parser=p, **(sweep or {}))

    p = run_verb(
        "tune",
        _tune,
        "choose hyperparameters on validation data, then run what was chosen (with the first seed; then for all)",
        "mubench tune fashion salun,scrub --trials 20 --seed 0 1 2",
    )
    p.add_argument(
        "--trials",
        type=int,
        default=20,
        metavar="N",
        help="settings to try of each method, the first being its defaults (default: 20)",
    )
    p.add_argument(
        "--budget-seconds",
        type=float,
        metavar="S",
        help="begin no trial after so many seconds of trials of a method (default: no limit)",
    )

    p = verb(
        "ablate",
        _ablate,
        "vary one thing: a grid with its own figure and table",
        "mubench ablate lora fashion --method salun --seed 0 1 2",
    )
    p.add_argument(
        "kind",
        metavar="KIND",
        help=(
            "lora (share of trained parameters), curriculum, ratio (deletion capacity), scale (FLOPs, sizes), "
            "budget (work) or bias (transfer set)"
        ),
    )
    p.add_argument("task", nargs="+", metavar="TASK", help="tasks, or mini / paper / all")
    p.add_argument(
        "--method", nargs="+", metavar="METHOD", help="methods (default: the five that the MU-Bench paper compares)"
    )
    options(p, "model", "ratio", "seed", "limit", many=("model", "ratio", "seed"))
    p.add_argument(
        "--at",
        nargs="+",
        type=float,
        metavar="X",
        help="levels instead of the kind's own: shares of lora, λ of curriculum, ratios",
    )
    p.add_argument(
        "--margin",
        type=float,
        metavar="M",
        help="of the deletion capacity: by how much the test score may fall (default: 0.02)",
    )
    p.add_argument(
        "--eval-every",
        type=int,
        default=10,
        metavar="K",
        help="steps between the points of curves (scale, budget; default: 10)",
    )
    p.add_argument("--workers", type=int, default=1, metavar="N", help="processes on this machine")
    p.add_argument("--out", default="results", metavar="FOLDER", help="where runs are kept (default: results)")
    p.add_argument("--figures", metavar="FOLDER", help="where the figure and the tables go (default: figures/KIND)")
    p.add_argument("--no-run", action="store_true", help="draw from what is there, run nothing")
    p.add_argument("--dry-run", action="store_true", help="only list the runs")

    p = verb(
        "fetch",
        _fetch,
        "bring what tasks need into the cache, so that everything else runs offline",
        "mubench fetch movie_snippets",
    )
    p.add_argument("task", nargs="+", metavar="TASK", help="tasks, or mini / paper / all")
    p.add_argument("--model", nargs="+", metavar="M", help="models of the tasks, or all (default: their first)")

    p = verb(
        "evaluate",
        _evaluate,
        "measure weights that any code has unlearned",
        "mubench evaluate fashion path/to/checkpoint --ratio 5",
    )
    p.add_argument("task", metavar="TASK")
    p.add_argument(
        "checkpoint", metavar="CHECKPOINT", help="a folder with model.safetensors and config.json, or a hub id"
    )
    options(p, "model", "ratio", "split_file", "seed", "limit")
    p.add_argument(
        "--name", metavar="NAME", help="what to call the code that made them: with --out, recorded like a run"
    )
    p.add_argument("--out", metavar="FOLDER", help="of results")
    p.add_argument("--seconds", type=float, metavar="S", help="what unlearning took on this machine")
    p.add_argument("--paper", default="", metavar="TEXT", help="where that code is described")
    p.add_argument("--save-model", action="store_true", help="keep the weights with the result")

    p = verb(
        "score",
        _score,
        "recompute every metric of stored results from their predictions",
        "mubench score results/fashion/resnet/salun/5/0123456789ab",
    )
    p.add_argument("result", nargs="+", metavar="RESULT", help="result folders, or folders of results")
    p.add_argument("--retrain", metavar="RESULT", help="the retrained model's result, for the distances to it")

    p = verb(
        "split", _split, "show, export or check a deletion split", "mubench split fashion --ratio 5 --export forget.txt"
    )
    p.add_argument("task", metavar="TASK")
    options(p, "ratio")
    p.add_argument("--export", metavar="FILE", help="write one row index per line, ascending")
    p.add_argument("--check", metavar="FILE", help="compare an index file with the split")

    p = verb(
        "original",
        _original,
        "show, train or verify the original checkpoint",
        "mubench original fashion --model resnet --verify",
    )
    p.add_argument("task", metavar="TASK")
    options(p, "model", "seed")
    p.add_argument("--train", action="store_true", help="train it by the recipe of the data card")
    p.add_argument("--verify", action="store_true", help="check its hash and measure its scores again")
    p.add_argument("--out", metavar="FOLDER", help="where --train writes (default: the cache, from where it is used)")

    p = verb(
        "check",
        _check,
        "contract test of a task, a method, a result or a submission",
        "mubench check my_method.py:MyMethod",
    )
    p.add_argument(
        "what",
        metavar="NAME|FILE.py:CLASS|RESULT|SUBMISSION",
        help="a submission is a folder with submission.json, or a .zip of it",
    )
    p.add_argument(
        "--weights", action="store_true", help="predict again from a submission's weights (level re-evaluated)"
    )
    p.add_argument(
        "--sample", type=int, metavar="N", help="so many examples of each set, drawn at random (default: 256; 0: all)"
    )
    p.add_argument("--rerun", action="store_true", help="run again from the specs (level reproduced)")
    p.add_argument("--record", action="store_true", help="write what was found to verified.json beside submission.json")

    p = verb("new", _new, "a commented starting file", "mubench new method my_method")
    p.add_argument("kind", choices=["task", "method"])
    p.add_argument("name", metavar="NAME", help="snake_case; the file NAME.py is written here")

    p = verb(
        "submit",
        _submit,
        "check results and pack them for the leaderboard",
        "mubench submit results --name My-Method --paper https://arxiv.org/abs/2406.14796 --out"
        " leaderboard/submissions",
    )
    p.add_argument("results", nargs="+", metavar="RESULT", help="result folders, or folders of results, of one method")
    p.add_argument("--name", required=True, metavar="TEXT", help="the method's, as its authors write it")
    p.add_argument("--description", default="", metavar="TEXT")
    p.add_argument("--paper", metavar="URL")
    p.add_argument("--code", metavar="URL")
    p.add_argument("--contact", metavar="TEXT")
    p.add_argument(
        "--taxonomy",
        nargs=5,
        metavar=("FORGET", "CORRUPTION", "RETAIN", "PARAMETERS", "SCHEDULE"),
        help=(
            'its row of `mubench ls methods` (default: as the results say), such as Loss Grad - "dense internal" joint'
        ),
    )
    p.add_argument(
        "--trials",
        type=int,
        metavar="N",
        help="settings tried on validation data, for each task and model (default: as the results say)",
    )
    p.add_argument("--budget", default="", metavar="TEXT", help="of one trial, in words")
    p.add_argument(
        "--weights",
        metavar="REPO@COMMIT|local",
        help=(
            "where on the hub the weights are, a folder for each result's id; local: pack those saved with the results"
        ),
    )
    p.add_argument("--out", metavar="FOLDER|FILE.zip", help="where to put its folder (default: here)")
    p.add_argument("--push-to-hub", metavar="REPO", help="send it to a dataset repository on the hub")

    p = verb(
        "board", _board, "aggregate results into tables and a site", "mubench board results --out tables --site www"
    )
    p.add_argument(
        "results", nargs="*", default=["results"], metavar="RESULTS", help="folders of results or submissions"
    )
    p.add_argument("--out", metavar="FOLDER", help="write the tables there: README.md, CSV, JSON, LaTeX, Parquet")
    p.add_argument("--site", metavar="FOLDER", help="write a static site there; index.html opens from the disk")
    p.add_argument("--serve", action="store_true", help="show the site on this machine until Ctrl-C")
    p.add_argument("--port", type=int, default=8000, metavar="N", help="of --serve (default: 8000)")

    p = verb(
        "report",
        _report,
        "one run as a self-contained page, or the MU-Bench paper from all results",
        "mubench report results/fashion/resnet/salun/5/0123456789ab\nexample: mubench report --paper results --out"
        " paper",
    )
    p.add_argument(
        "run",
        nargs="+",
        metavar="RUN",
        help="a result's folder; with --paper folders of results, or runs.parquet of `mubench board --out FOLDER`",
    )
    p.add_argument(
        "--paper",
        action="store_true",
        help="every table and figure of the MU-Bench paper, next to the published values",
    )
    p.add_argument(
        "--out",
        metavar="FILE",
        help="the page (default: report.html in the folder), or the folder of --paper (default: paper)",
    )
    p.add_argument(
        "--references",
        nargs="+",
        metavar="RESULTS",
        help="where original and retrain are looked for (default: the run's own store)",
    )
    return top


# -- verbs
# ---------------------------------------------------------------------------------------------------------------


def _ls(args):
    from mubench import listing

    print(listing.show(args.what))


def _run(args):
    from mubench.sweep import grid, progress

    for what in ("task", "method"):
        if not getattr(args, what):
            raise MubenchError(f"nothing to run: {args.sweep} names no {what}, nor does the command line")
    specs, left_out = grid.expand(args.task, args.method, args.model, args.ratio, args.seed, **_options(args))
    for sentence in left_out:
        print(f"left out: {sentence}")
    if args.dry_run:
        return _dry_run(specs, args)
    cluster = {"address": args.ray, "cpus": args.cpus_per_run, "gpus": args.gpus_per_run} if args.ray else None
    done, before, failed = grid.sweep(
        specs,
        args.out,
        args.workers,
        args.force,
        cluster=cluster,
        save_model=args.save_model,
        eval_every=args.eval_every,
    )
    if progress.rank() == 0:
        print(f"\n{len(done)} done, {len(before)} there before, {len(failed)} failed; results in {args.out}\n")
        _show(args.out, done + before)
    if failed:
        raise MubenchError(
            f"{len(failed)} of {len(specs)} runs failed, the first, {failed[0].folder}, with:"
            f" {progress.reason(failed[0], args.out)}"
        )


def _tune(args):
    from mubench.sweep import grid
    from mubench.sweep.tuning import tune_all

    specs, left_out = grid.expand(
        args.task, args.method, args.model, args.ratio, args.seed and args.seed[:1], **_options(args)
    )
    for sentence in left_out:
        print(f"left out: {sentence}")
    print()
    _show(
        args.out,
        tune_all(specs, args.trials, args.seed or [specs[0].seed], args.budget_seconds, args.workers, args.out),
    )


def _options(args):
    """What `make_spec` takes besides task, model, method, ratio and seed."""
    params = dict(_pair(text) for text in args.set)
    params |= {"optimizer": args.optimizer} if args.optimizer else {}
    from mubench.spec import RunSpec

    return {"params": params} | {
        name: getattr(args, name)
        for name in RunSpec.model_fields
        if name in args
        and name not in ("task", "method", "model", "ratio", "seed", *["trials"] * (args.function is _tune))
    }


def _show(out, specs):
    from mubench.leaderboard.board import board

    if specs:
        print(board([out], only=specs).text())


def _dry_run(specs, args):
    from mubench.records.result import Store

    for spec in specs:
        print(f"{spec.id}  {'done' if Store(args.out).done(spec) else 'to do'}  {spec.folder.parent}  seed {spec.seed}")
    os.environ["HF_HUB_OFFLINE"] = (
        "1"  # read when the libraries are imported, which is now: a dry run downloads nothing
    )
    from mubench.sweep import grid, plan

    print(f"\n{grid.forecast(specs, args.out)}", flush=True)
    runs = {}
    for spec in specs:
        runs.setdefault((spec.task, spec.model), []).append(spec.make_method())
    for (task, model), methods in runs.items():
        print(f"\n{plan.report(task, model, methods, args.gpu_memory, specs[0].adapt)}", flush=True)


def _ablate(args):
    if args.dry_run:
        from mubench.leaderboard.studies.ablations import specs_of
        from mubench.leaderboard.studies.kinds import varied_options
        from mubench.records.result import Store

        references, specs, left_out = specs_of(
            args.kind, args.task, args.method, args.model, args.ratio, args.seed, args.at, limit=args.limit
        )
        for sentence in left_out:
            print(f"left out: {sentence}")
        for spec in [*references, *specs]:
            print(
                spec.id,
                " done" if Store(args.out).done(spec) else "to do",
                spec.folder.parent,
                f"seed {spec.seed}",
                *(f"{name}={value}" for name, value in varied_options(spec).items()),
            )
        return print(f"{len(references) + len(specs)} runs")
    from mubench.leaderboard.studies.ablations import ablate

    figures = args.figures or os.path.join("figures", args.kind)
    exhibits = ablate(
        args.kind,
        args.task,
        args.method,
        models=args.model,
        ratios=args.ratio,
        seeds=args.seed,
        at=args.at,
        out=args.out,
        figures=figures,
        workers=args.workers,
        eval_every=args.eval_every,
        **({} if args.margin is None else {"margin": args.margin}),
        limit=args.limit,
        run=not args.no_run,
    )
    print("\n\n".join(exhibit.text() for exhibit in exhibits))
    print(f"\nwritten: {', '.join(file for exhibit in exhibits for file in exhibit.files)}")


def _fetch(args):
    from mubench.sweep import grid
    from mubench.registry import load_task

    for name in grid.expand_tasks(args.task):
        task = load_task(name)
        for model in task.models if args.model == ["all"] else map(task.model, args.model or [None]):
            if brought := task.fetch_model(model):
                print(f"{name} {model}: {', '.join(brought)}", flush=True)
        task.fetch()
        split = task.split()
        print(f"{name}: {split.n} training rows, checksum {split.data[:12]}")


def _evaluate(args):
    from mubench.api import evaluate

    options = {
        name: getattr(args, name)
        for name in ("model", "ratio", "split_file", "seed", "limit", "name", "out", "seconds", "paper", "save_model")
    }
    values = evaluate(args.task, args.checkpoint, **options)
    _print_metrics(values)


def _score(args):
    from mubench.records.result import Store, score

    folders = [folder for given in args.result for folder in Store(given).results()]
    if not folders:
        raise MubenchError(f"no results below {', '.join(args.result)}")
    for folder in folders:
        print(folder)
        _print_metrics(score(folder, args.retrain))


def _split(args):
    from mubench.registry import load_task

    split = load_task(args.task).split(**{"ratio": args.ratio} if args.ratio else {})
    if args.check:
        split.compare(args.check)
        print(f"{args.check} is the {split.name} % split of {args.task}")
    if args.export:
        split.export(args.export)
    if not args.check:
        print(
            f"{args.task}, {split.name} %: {len(split.forget)} of {split.n} rows to forget\nforget rows"
            f" {split.checksum}\nmade for data {split.data}"
        )


def _original(args):
    import json

    from mubench.job import train_original, verify_original
    from mubench.models import originals
    from mubench.registry import load_task
    from mubench.spec import Options

    task, seed = load_task(args.task), Options.checked(seed=args.seed).seed
    model = task.model(args.model)
    if args.train:
        shown = train_original(task, model, args.out, seed)
    elif args.verify:
        shown = verify_original(task, model, seed=seed)
    else:
        facts = originals.load(task, model, seed=seed)[1]
        shown = {"source": facts["source"], **(facts["card"] or {"sha256": facts["sha256"]})}
    print(json.dumps(shown, indent=1))


def _check(args):
    from mubench.leaderboard.check import check

    options = {"weights": args.weights, "rerun": args.rerun, "record": args.record}
    options |= {} if args.sample is None else {"sample": args.sample or None}
    for line in check(args.what, **options):
        print(line, flush=True)


def _submit(args):
    from mubench.leaderboard.submission import submit

    options = {
        name: getattr(args, name)
        for name in (
            "description",
            "paper",
            "code",
            "contact",
            "taxonomy",
            "trials",
            "budget",
            "weights",
            "out",
            "push_to_hub",
        )
    }
    for line in submit(args.results, args.name, **options):
        print(line, flush=True)


def _new(args):
    from mubench.new import new

    print(new(args.kind, args.name))


def _board(args):
    from mubench.leaderboard.board import board

    table = board(args.results, args.out)
    print(table.text())
    if args.out:
        print(f"\nwritten: {', '.join(table.files)}")
    if args.site or args.serve:
        from mubench.leaderboard import site

        if args.serve:
            return site.serve(table, args.site, args.port)
        print(f"\nwritten: {site.write_site(table, args.site)}")


def _report(args):
    if args.paper:
        from mubench.leaderboard.studies.paper.report import paper

        return print(paper(args.run, args.out or "paper"))
    from mubench.leaderboard.report import report

    if len(args.run) > 1:
        raise MubenchError(f"{len(args.run)} runs: a page is of one; give one, or --paper for all results")
    print(report(args.run[0], args.out, args.references))


# -- helpers
# -------------------------------------------------------------------------------------------------------------


def _print_metrics(values):
    for name, value in values.items():
        print(f"  {name:20} {'undefined' if value is None else format(value, '.4f')}")


def _pair(text):
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise MubenchError(f"--set {text!r}: write NAME=VALUE, such as lr=1e-4")
    return name, value


def _quiet(args):
    """Library chatter is for debugging; progress bars are for terminals."""
    if args.debug:
        return
    import logging
    import warnings

    warnings.simplefilter("ignore")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TQDM_DISABLE", "") if sys.stderr.isatty() else None
    for library in ("transformers", "huggingface_hub"):
        logging.getLogger(library).setLevel(logging.ERROR)


class _From(argparse.Action):
    """Task and method may come from the file."""

    def __call__(self, parser, namespace, path, *_):
        namespace.sweep = path
        for action in parser._actions:
            if not action.option_strings:
                action.required = False


class _Version(argparse.Action):
    def __init__(self, option_strings, dest, **_):
        super().__init__(option_strings, dest, nargs=0, help="show the version")

    def __call__(self, parser, *_):
        import mubench

        print(f"mubench {mubench.__version__}")
        parser.exit()


if __name__ == "__main__":
    main()
