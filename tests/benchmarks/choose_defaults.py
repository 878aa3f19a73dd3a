"""How the defaults of the methods were chosen: on validation data, the same trials for all that train at a rate.

    python tests/benchmarks/choose_defaults.py [METHOD...]     # runs what choose_defaults.json lacks, prints the
    choices

Every trial unlearns 5 % of a mini task with seed 0, or all of one label where a method goes by prompts, and is judged
by its gap to
retraining: the mean of the absolute differences of the validation, forget and retain scores from those of the retrained
model. A method's default is the setting with the smallest gap, averaged over its tasks (those of ``TASKS`` it works on,
or else the first mini task it does); of settings within a tenth of a point of it, the one with the fewest epochs. The
test sets are never looked at.
"""

import functools
import itertools
import json
import sys
from pathlib import Path

import torch

from mubench.listing import pairs
from mubench.measure.predict import predict, scores
from mubench.models import originals
from mubench.registry import load_method, load_task, methods
from mubench.splits import make_split
from mubench.train.context import Context
from mubench.train.engine import Engine
from mubench.train.loop import NonFiniteLoss

FILE = Path(__file__).with_suffix(".json")
TASKS = ("fashion", "movie_snippets", "spoken_words")


def grid(**values):
    """All combinations of hyperparameters' values."""
    return [dict(zip(values, each, strict=True)) for each in itertools.product(*values.values())]


GRIDS = {  # what is tried; of a method that is not here: RATES
    "neggrad": grid(
        lr_factor=(0.003, 0.01, 0.03, 0.1), epochs=(1, 3)
    ),  # nothing holds D_r: smaller rates than the others'
    "ssd": grid(
        alpha=(None,), dampening=(1.0, 0.3)
    ),  # no fixed alpha: above |D| / |D_f|, 10 at 10 %, nothing is selected
    "fisher": grid(rise=(0.01, 0.03, 0.1, 0.3)),
    "influence": grid(alpha=(1.0, 10.0, 100.0)),
    "rmu": [
        dict(lr_factor=1.0, epochs=3, alpha=100.0, depth=0.25),
        dict(lr_factor=1.0, epochs=3, alpha=1.0, depth=0.25),
        dict(lr_factor=1.0, epochs=3, alpha=1.0, depth=1.0),
        dict(lr_factor=1.0, epochs=1, alpha=10.0, depth=1.0),
        dict(lr_factor=0.3, epochs=1, alpha=1.0, depth=1.0),
    ],
    "esd": [dict(lr_factor=0.03, epochs=3), *grid(lr_factor=(0.1, 0.3, 1.0), epochs=(10,))],
    "forget_me_not": grid(onward=(False, True), lr_factor=(0.3, 1.0), epochs=(10,)),
    "uce": [{}],  # what is official; erase=10 forgets a label further, but ruins prompts that D_f and D_r share
}
RATES = grid(lr_factor=(0.03, 0.1, 0.3, 1.0), epochs=(1, 3))


def settings(name):
    return GRIDS.get(name, RATES if methods.get(name).start != "fresh" and load_method(name).terms else [{}])


def tasks(name):
    works = pairs()[name]
    if "prompts" in load_method(name).requires:
        return [f"{works[0]}/label"]
    return [task for task in TASKS if task in works] or works[:1]


def load(name):
    """A mini task and its 5 % to be deleted, or, as ``TASK/label``, all of one label: what methods erase that go by
    prompts.
    """
    task = load_task(name.partition("/")[0])
    if name == task.name:
        return task, task.split(5)
    labels = task.data["train"]["label"]
    return task, make_split(task.name, 100 / task.num_labels, labels, task.split(5).data)


def trial(task, split, name, setting):
    """Scores on validation, forget and retain set after one run."""
    model, method = task.model(), load_method(name, **setting)
    sets, fresh = task.sets(model, split), functools.partial(task.build, model, 0)
    context = Context(
        task,
        originals.load(task, model)[0],
        fresh,
        sets["forget"],
        sets["retain"],
        0,
        start=method.start,
        validation=sets["validation"],
    )
    try:
        Engine(method, context, method.recipe(task.model_recipe(model)), progress=False).run()
    except NonFiniteLoss:
        return {"validation": 0.0, "forget": 0.0, "retain": 0.0}
    return scores(task, predict(task, context.student, {n: sets[n] for n in ("validation", "forget", "retain")}))


def main():
    torch.set_num_threads(1)
    chosen = sys.argv[1:] or methods.names()
    for method in chosen:
        for name, setting in itertools.product(tasks(method), settings(method)):
            for key in ((name, "retrain", {}), (name, method, setting)):
                if json.dumps(key) not in (trials := json.loads(FILE.read_text())):
                    trials[json.dumps(key)] = trial(*load(name), *key[1:])
                    FILE.write_text(json.dumps(trials, indent=0) + "\n")
                    print(*key, trials[json.dumps(key)], flush=True)
    for method in chosen:
        for gap, setting in gaps(trials, method):
            print(
                f"{method:13} {gap:6.2f} "
                f" {setting}{'  <- default' if setting and setting == choice(trials, method) else ''}"
            )


def gaps(trials, method):
    """(mean gap to retrain over its tasks in per cent, setting) of every setting of a method, the smallest first."""
    rows = []
    for setting in settings(method):
        each = []
        for task in tasks(method):
            found, retrain = (trials[json.dumps([task, *key])] for key in ((method, setting), ("retrain", {})))
            each.append(100 * sum(abs(found[s] - retrain[s]) for s in found) / len(found))
        rows.append((sum(each) / len(each), setting))
    return sorted(rows, key=lambda row: row[0])


def choice(trials, method):
    """The setting that becomes the method's default."""
    rows = gaps(trials, method)
    return min((row for row in rows if row[0] <= rows[0][0] + 0.1), key=lambda row: row[1].get("epochs", 0))[1]


if __name__ == "__main__":
    main()
