"""How the default learning rate and epochs of the methods were chosen: on validation data, the same trials for all.

    python tests/benchmarks/choose_defaults.py            # runs what choose_defaults.json lacks, prints the choices

Every trial unlearns 5 % of a mini task with seed 0 and is judged by its gap to retraining: the mean of the absolute differences
of the validation, forget and retain scores from those of the retrained model. A method's default is the setting with
the smallest gap, averaged over the three tasks; of settings within a tenth of a point of it, the one with the fewest epochs.
The test sets are never looked at.
"""
import functools
import json
import sys
from pathlib import Path

import torch

from mubench import originals
from mubench.engine import Context, Engine, NonFiniteLoss
from mubench.evaluation import predict, scores
from mubench.registry import load_method, load_task, methods

FILE = Path(__file__).with_suffix(".json")
TASKS = ("fashion", "movie_snippets", "spoken_words")
FACTORS = {"neggrad": (0.003, 0.01, 0.03, 0.1)}  # nothing holds D_r: smaller rates than the others'


def settings(name):
    if methods.get(name).start == "fresh" or not load_method(name).terms:
        return [{}]
    rates = FACTORS.get(name, (0.03, 0.1, 0.3, 1.0))
    return [{"lr_factor": rate, "epochs": epochs} for epochs in (1, 3) for rate in rates]


def trial(task, name, setting):
    """Scores on validation, forget and retain set after one run."""
    model, method = task.model(), load_method(name, **setting)
    sets, fresh = task.sets(model, task.split(5)), functools.partial(task.build, model, 0)
    context = Context(task, originals.load(task, model)[0], fresh, sets["forget"], sets["retain"], 0, start=method.start,
                      validation=sets["validation"])
    try:
        Engine(method, context, method.recipe(task.model_recipe(model)), progress=False).run()
    except NonFiniteLoss:
        return {"validation": 0.0, "forget": 0.0, "retain": 0.0}
    return scores(task, predict(task, context.student, {n: sets[n] for n in ("validation", "forget", "retain")}))


def main():
    torch.set_num_threads(1)
    chosen_tasks = sys.argv[1:] or TASKS
    for name in chosen_tasks:
        task = load_task(name)
        for method in methods.names():
            for setting in settings(method):
                key = json.dumps([name, method, setting])
                if key not in (json.loads(FILE.read_text()) if FILE.exists() else {}):
                    found = trial(task, method, setting)
                    done = json.loads(FILE.read_text()) if FILE.exists() else {}
                    FILE.write_text(json.dumps(done | {key: found}, indent=0) + "\n")
                    print(key, found, flush=True)
    trials = json.loads(FILE.read_text())
    if len(chosen_tasks) == len(TASKS):
        for method in methods.names():
            for gap, setting in gaps(trials, method):
                print(f"{method:13} {gap:6.2f}  {setting}{'  <- default' if setting and setting == choice(trials, method) else ''}")


def gaps(trials, method):
    """(mean gap to retrain over the tasks in per cent, setting) of every setting of a method, the smallest first."""
    rows = []
    for setting in settings(method):
        each = []
        for task in TASKS:
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
