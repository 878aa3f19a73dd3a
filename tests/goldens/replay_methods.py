"""Replays with mubench's methods and engine what the authors' codes gave on tiny problems; the figures lie in ``*.json`` here.

``FAMILIES`` maps a pattern of entry ids to ``replay(entry, file)``, which answers with values nested as in
``entry["expected"]``, computed from the entry's inputs and the problem of its file.
"""
import functools
import json
import math
import re
from itertools import groupby
from pathlib import Path

import torch
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from mubench.behaviour import Behaviour
from mubench.engine import Context, Engine
from mubench.examples import Examples
from mubench.recipe import Recipe
from mubench.registry import load_method

OWN = json.loads((Path(__file__).parent / "methods.json").read_text())
NUMBER = r"\d*\.?\d+(?:e[+-]?\d+)?"
SPELLINGS = {"lr": "unlearn_lr|lr", "momentum": "momentum|mom", "weight_decay": "weight_decay|wd",
             "epochs": "unlearn_epochs|sgda_epochs|epochs|steps", "milestones": "decreasing_lr|lr_decay_epochs|milestones",
             "lr_decay": "lr_decay_rate", "temperature": "kd_T|KL_temperature|temperature|T", "alpha": "alpha",
             "gamma": "gamma", "msteps": "msteps", "l2_init": "l2_init|l2"}
PLAIN = Recipe(lr=0.0, epochs=1, batch_size=1, optimizer="sgd", momentum=0.0, weight_decay=0.0, clip=0.0)


# --- the problem --------------------------------------------------------------------------------------------------------

class Net(torch.nn.Module):
    def __init__(self, file, theta):
        super().__init__()
        d, h, c = (file["problem"]["dims"][k] for k in "DHC")
        self.fc1, self.fc2 = (torch.nn.Linear(*sizes, dtype=torch.float64) for sizes in ((d, h), (h, c)))
        vector_to_parameters(tensor(file, theta), self.parameters())

    def forward(self, x):
        return self.fc2(self.fc1(x).tanh())


class RandomFeatures(torch.nn.Module):
    """The synthetic model of the NPO paper, class C's logit being 0: ``relu(X W^T) [a, 0]``."""

    def __init__(self, inputs):
        super().__init__()
        self.W, self.a = closed_form(inputs["W"]), torch.nn.Parameter(closed_form(inputs["a0"]))

    def forward(self, x):
        return torch.nn.functional.pad((x @ self.W.T).relu() @ self.a, (0, 1))


def closed_form(text):
    """The array that ``0.6*sin(0.4+0.9k) shape (5,4)`` describes."""
    scale, function, a, b, shape = re.fullmatch(
        rf"({NUMBER})\*(sin|cos)\(({NUMBER})\+({NUMBER})k\) shape (\[.*\]|\(.*\))", text).groups()
    shape = json.loads(f"[{shape[1:-1]}]")
    k = torch.arange(math.prod(shape), dtype=torch.float64).view(shape)
    return float(scale) * getattr(torch, function)(float(a) + float(b) * k)


def tensor(file, name):
    return torch.tensor(file["problem_values"][name], dtype=torch.long if name[0] == "y" else torch.float64)


def sets(file, forget="X_f", retain="X_r"):
    """Two views of D_f followed by D_r; ``X_r[:6]`` names the first rows of one."""
    columns = {"x": torch.cat([tensor(file, n) for n in ("X_f", "X_r")]),
               "labels": torch.cat([tensor(file, n) for n in ("y_f", "y_r")])}
    everything, split = torch.arange(len(columns["labels"])), file["problem"]["dims"]["n_forget"]
    rows = {"X_f": everything[:split], "X_r": everything[split:]}

    def view(name):
        name, stop = re.fullmatch(r"(\w+)(?:\[:(\d+)\])?", name).groups()
        return Examples(columns, rows[name][:int(stop) if stop else None])
    return view(forget), view(retain)


def batch_sizes(file):
    """Of the two sets, as ``forget: rows [0:3],[3:6]; retain: [0:4],…`` says."""
    text = file["problem"]["formulas"]["batches"]
    forget, retain = re.search(r"forget:[^[]*\[0:(\d+)\].*retain:[^[]*\[0:(\d+)\]", text).groups()
    return {"forget_batch_size": int(forget), "batch_size": int(retain)}


def settings(inputs):
    """The hyperparameters among the inputs, whether spelled as a key, inside ``args`` or in words: ``SGD lr .05 mom .9``."""
    inputs = inputs | inputs.get("args", {})
    text = " ".join(v for v in inputs.values() if isinstance(v, str))
    found = {"optimizer": name[0].lower() for name in re.findall(r"\b(sgd|adamw?)\b()", text, re.I)[:1]}
    for name, spellings in SPELLINGS.items():
        keys = [k for k in spellings.split("|") if k in inputs]
        words = re.search(rf"\b(?:{spellings})\b[ =:]*({NUMBER})", text)
        if keys or words:
            found[name] = inputs[keys[0]] if keys else words[1]
    if isinstance(found.get("milestones"), str):
        found["milestones"] = f"[{found['milestones']}]"
    return found


# --- the run ------------------------------------------------------------------------------------------------------------

class Listed(Behaviour):
    """Gives the labels listed by the entry, batch after batch."""

    def __init__(self, labels=()):
        self.labels = iter(labels)

    def corrupt(self, batch, rows, draw, pool, other=True):
        labels = batch["labels"].clone()
        labels[rows] = torch.tensor(next(self.labels)).to(labels)[rows]
        return batch | {"labels": labels}


class Recorder(Engine):
    """The engine, keeping of every step its epoch, set, size, loss and rate."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, shuffle=False, progress=False, **kwargs)
        self.steps = []

    def _step(self, step, *args):
        loss = super()._step(step, *args)
        self.steps.append((self.context.epoch, step[0][0], sum(len(rows) for _, rows in step), loss,
                           self.optimizer.param_groups[0]["lr"]))
        return loss

    def averages(self, on):
        """Mean loss per example of a set, one for each epoch that visits it."""
        visits = groupby((s for s in self.steps if s[1] == on), key=lambda s: s[0])
        means = ((math.fsum(n * loss for _, _, n, loss, _ in steps), sum(n for _, _, n, _, _ in steps))
                 for steps in (list(steps) for _, steps in visits))
        return [total / n for total, n in means]


def replay(name, file, student, views, labels=(), original=None, incompetent=None, **hyperparameters):
    """Run a method from ``student``; unknown hyperparameters are other methods' (args of a parser they share)."""
    known = load_method(name).hints()
    method = load_method(name, **{k: v for k, v in hyperparameters.items() if k in known}, lr_factor=1.0)
    context = Context(Listed(labels), student, lambda: student, *views, start=method.start)
    for role, theta in {"original": original, "incompetent": incompetent}.items():
        if theta:
            setattr(context, role, Net(file, theta).to(context.device).eval().requires_grad_(False))
    engine = Recorder(method, context, method.recipe(PLAIN))
    engine.run()
    return engine


def outcome(engine):
    """What most entries ask for: the parameters afterwards and the mean cross-entropies."""
    context = engine.context
    with torch.no_grad():
        after = {"params_after": parameters_to_vector(context.student.parameters()).tolist()}
        for on in ("forget", "retain"):
            view = getattr(context, on)
            batch = {k: v.to(context.device) for k, v in view[torch.arange(len(view))].items()}
            after[f"{on}_ce"] = context.task.forward(context.student, batch).loss.mean().item()
    return after


# --- the families -------------------------------------------------------------------------------------------------------

def sgd(name, entry, file):
    inputs = entry["inputs"]
    return outcome(replay(name, file, Net(file, inputs["start"]), sets(file), **settings(inputs) | batch_sizes(file)))


def neggrad_plus_l2(entry, file):
    """The penalty takes the authors' ``weight_decay``; their optimiser then has none."""
    inputs, found = entry["inputs"], settings(entry["inputs"])
    found = {"l2_init": found.get("weight_decay")} | found | {"weight_decay": 0.0}
    return outcome(replay("neggrad_plus", file, Net(file, inputs["start"]), sets(file), **found | batch_sizes(file)))


def one_loss(name, entry, file, factor=1.0, **hyperparameters):
    """The loss of a single step over everything the entry names."""
    inputs = entry["inputs"]
    views = sets(file, inputs.get("df", inputs.get("x", "X_f")), inputs.get("dr", "X_r"))
    sizes = {"forget_batch_size": len(views[0]), "batch_size": len(views[1])}
    engine = replay(name, file, Net(file, inputs["model"]), views, **hyperparameters, **sizes)
    return {"loss": factor * engine.steps[0][3]}


def random_features(name, entry, file, factor=1.0, **hyperparameters):
    inputs, views = entry["inputs"], sets(file)
    found = settings(inputs)
    found |= {"lr": factor * found["lr"], "forget_batch_size": len(views[0]), "batch_size": len(views[1])}
    student = replay(name, file, RandomFeatures(inputs), views, **found | hyperparameters).context.student
    return {"beta=None": {f"a_after_{found['epochs']}_steps": student.a.tolist()}}


def scrub_kl(entry, file):
    """The divergence is what the first step over D_f maximises."""
    inputs, views = entry["inputs"], sets(file, entry["inputs"]["x"])
    return {key: -replay("scrub", file, Net(file, inputs["student"]), views, original=inputs["teacher"], msteps=1,
                         temperature=float(key.removeprefix("T=")), forget_batch_size=len(views[0])).steps[0][3]
            for key in entry["expected"]}


def scrub(entry, file):
    inputs = entry["inputs"]
    if inputs.get("beta"):
        raise ValueError(f"SCRUB has no representation term, the entry weighs one by beta={inputs['beta']}")
    engine = replay("scrub", file, Net(file, inputs["start"]), sets(file), original=inputs["teacher"],
                    **settings(inputs) | batch_sizes(file))
    return outcome(engine) | {"lr_returned_per_epoch": list({epoch: lr for epoch, *_, lr in engine.steps}.values()),
                              "max_loss_avg_per_max_epoch": engine.averages("forget"),
                              "min_loss_avg_per_epoch": engine.averages("retain")}


def badt(entry, file, **hyperparameters):
    """Bad-T over the whole of D_f and D_r, the official way: divergences averaged over classes too."""
    inputs = entry["inputs"]
    forget, retain = sets(file)
    if "labels" in inputs:
        both, label = forget + retain, torch.tensor(inputs["labels"])
        forget, retain = both.select(label == 1), both.select(label == 0)
    words = re.search(r"batch(?:es of|[_ ]size)[ =:]*(\d+)", " ".join(map(str, [*inputs.values(), entry.get("notes")])))
    size = inputs.get("batch_size", int(words[1]) if words else len(forget) + len(retain))
    given = {"per": "class", "retain_share": 1.0, "batch_size": size} | settings(inputs) | hyperparameters
    return replay("bad_t", file, Net(file, inputs.get("start", inputs.get("student"))), (forget, retain), **given,
                  original=inputs.get("full_teacher"), incompetent=inputs.get("unlearning_teacher", "theta_bad"))


def badt_loss(entry, file):
    def loss(key):
        per = "example" if key.startswith("batchmean") else "class"
        return badt(entry, file, temperature=float(key.rpartition("T=")[2]), per=per).steps[0][3]
    return {key: loss(key) for key in entry["expected"]}


def salun_mask(entry, file):
    """The mask is set in ``prepare``: no epoch is needed."""
    expected, result = entry["expected"], {}
    for ratio in {key.rpartition("_")[2] for key in expected if key.startswith(("mask_", "ones_"))}:
        context = replay("salun", file, Net(file, entry["inputs"]["params"]), sets(file), saliency_ratio=float(ratio),
                         epochs=0, **batch_sizes(file)).context
        mask = parameters_to_vector(context._mask.values()).int().tolist()
        result |= {f"mask_{ratio}": mask, f"ones_{ratio}": sum(mask)}
    return result | {"abs_sum_grad": parameters_to_vector(context.saliency("forget").values()).tolist()}


def salun(entry, file, hold=True):
    """``mask`` names a ratio (none: every weight may move); without the key it is the method's default."""
    inputs = entry["inputs"]
    known = {e["id"]: e["inputs"] for f in (OWN, file) for e in f["entries"]}
    if "same as" in inputs:  # an entry the file may lack differs from the unmasked one by its mask alone
        unmasked = {k: v for k, v in known["salun_rl_nomask_params"].items() if k != "mask"}
        inputs = known.get(inputs["same as"], unmasked) | inputs
    found = settings(inputs) | {"hold": hold}
    if (mask := inputs.get("mask", "")) is None:
        found["saliency_ratio"] = 1.0
    elif isinstance(mask, list):
        found["saliency_ratio"] = (sum(mask) + 0.5) / len(mask)
    elif ratio := re.search(r"\d*\.\d+", str(mask)):
        found["saliency_ratio"] = float(ratio[0])
    engine = replay("salun", file, Net(file, inputs["start"]), sets(file),
                    labels=inputs["random_labels_per_forget_batch_in_order"], **found | batch_sizes(file))
    result, movable = outcome(engine), parameters_to_vector(engine.context._mask.values())
    if isinstance(mask, list) and movable.int().tolist() != mask:
        raise ValueError("the entry's mask is not the saliency mask of its start")
    after, before = torch.tensor(result["params_after"], dtype=torch.float64), tensor(file, inputs["start"])
    drift = (after - before)[~movable.bool().cpu()].abs()
    return result | {"max_abs_drift_on_masked_out": drift.max().item() if len(drift) else 0.0}


FAMILIES = {
    r"optml_ga_.*": functools.partial(sgd, "neggrad"),
    r"optml_ft_.*": functools.partial(sgd, "finetune"),
    r"optml_retrain_.*": functools.partial(sgd, "retrain"),
    r"neggrad_plus_l2.*": neggrad_plus_l2,
    r"neggrad_plus_.*": functools.partial(sgd, "neggrad_plus"),
    r"mubench_grad_ascent": functools.partial(one_loss, "neggrad"),
    # GradDiff weighs both losses by 1, NegGrad+ at alpha 1/2 by 1/2 each
    r"mubench_grad_diff": functools.partial(one_loss, "neggrad_plus", factor=2.0, alpha=0.5),
    r"npo_synth_grad_ascent": functools.partial(random_features, "neggrad"),
    r"npo_synth_grad_descent": functools.partial(random_features, "finetune"),
    r"npo_synth_grad_diff": functools.partial(random_features, "neggrad_plus", factor=2.0, alpha=0.5),
    r"badt_loss.*": badt_loss,
    r"badt_params.*": lambda entry, file: outcome(badt(entry, file)),
    r"scrub_distillkl.*": scrub_kl,
    r"scrub_params_.*": scrub,
    r"salun_mask.*": salun_mask,
    r"salun_rl_.*pre_feb.*": functools.partial(salun, hold=False),
    r"salun_rl_.*": salun,
}
