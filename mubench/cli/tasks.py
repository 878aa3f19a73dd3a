"""Verbs for what a task consists of: fetch, split, original."""

import json

from mubench.cli import checks
from mubench.cli.declare import argument, fields, verb


@verb(
    "bring what tasks need into the cache, so that everything else runs offline",
    "mubench fetch movie_snippets",
    argument("task", nargs="+", metavar="TASK", help="tasks, or mini / paper / all"),
    argument("--model", nargs="+", metavar="M", help="models of the tasks, or all (default: their first)"),
    data=True,
)
def fetch(args):
    from mubench.registry import load_task
    from mubench.sweep import grid

    for name in grid.expand_tasks(args.task):
        task = load_task(name)
        for model in task.models if args.model == ["all"] else map(task.model, args.model or [None]):
            if brought := task.fetch_model(model):
                print(f"{name} {model}: {', '.join(brought)}", flush=True)
        task.fetch()
        print(f"{name}: {len(task.data['train'])} training rows, checksum {task.data_checksum[:12]}")


@verb(
    "show, export or check a deletion split",
    "mubench split fashion --ratio 5 --export forget.txt",
    *fields("unit"),
    argument("task", metavar="TASK"),
    *fields("ratio"),
    argument("--export", metavar="FILE", check=checks.file_beside, help="write one row index per line, ascending"),
    argument("--check", metavar="FILE", check=checks.index_file, help="compare an index file with the split"),
    data=True,
)
def split(args):
    from mubench.registry import load_task
    from mubench.splits import described

    split = load_task(args.task).split(unit=args.unit, **{"ratio": args.ratio} if args.ratio else {})
    if args.check:
        split.compare(args.check)
        print(f"{args.check} is the {described(split.name)} split of {args.task}")
    if args.export:
        split.export(args.export)
    if not args.check:
        print(f"{args.task}, {described(split.name)}: {len(split.forget)} of {split.n} rows to forget")
        print(f"forget rows {split.checksum}\nmade for data {split.data}")


@verb(
    "show, train or verify the original checkpoint",
    "mubench original fashion --model resnet --verify",
    argument("task", metavar="TASK"),
    *fields("model", "seed"),
    argument("--train", action="store_true", help="train it by the recipe of the data card"),
    argument("--verify", action="store_true", help="check its hash and measure its scores again"),
    argument(
        "--out",
        metavar="FOLDER",
        check=checks.out_folder,
        help="where --train writes (default: the cache, from where it is used)",
    ),
    data=True,
)
def original(args):
    from mubench.job import train_original
    from mubench.measure.card import verify_original
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
