"""Replays with mubench's methods and engine what the authors' codes gave on tiny problems; the figures lie in
``*.json`` here.

``FAMILIES`` maps a pattern of entry ids to ``replay(entry, file)``, which answers with values nested as in
``entry["expected"]``, computed from the entry's inputs and the problem of its file.
"""

import functools
import itertools
import json
import math
import re
import types
from itertools import groupby
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from mubench.examples import Examples
from mubench.methods._memory import accuracy, extraction
from mubench.models.behaviour import Behaviour, Output
from mubench.registry import load_method
from mubench.train.context import Context
from mubench.train.curriculum import SuperLoss
from mubench.train.engine import Engine
from mubench.train.recipe import Recipe

OWN = json.loads((Path(__file__).parent / "methods.json").read_text())
NUMBER = r"\d*\.?\d+(?:e[+-]?\d+)?"
SPELLINGS = {
    "lr": "unlearn_lr|lr",
    "momentum": "momentum|mom",
    "weight_decay": "weight_decay|wd",
    "epochs": "unlearn_epochs|sgda_epochs|epochs|steps",
    "milestones": "decreasing_lr|lr_decay_epochs|milestones",
    "lr_decay": "lr_decay_rate",
    "temperature": "kd_T|KL_temperature|temperature|T",
    "alpha": "alpha",
    "gamma": "gamma",
    "msteps": "msteps",
    "l2_init": "l2_init|l2",
    "no_l1_epochs": "no_l1_epochs",
}
PLAIN = Recipe(lr=0.0, epochs=1, batch_size=1, optimizer="sgd", momentum=0.0, weight_decay=0.0, clip=0.0)


# --- the problem
# --------------------------------------------------------------------------------------------------------


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

    def __init__(self, inputs, reference=False):
        super().__init__()
        self.W, a = closed_form(inputs["W"]), closed_form(inputs["a0"])
        if reference:
            a = a + closed_form(inputs["a_ref"].removeprefix("a0 + ") + f" shape {list(a.shape)}")
        self.a = torch.nn.Parameter(a)

    def forward(self, x):
        return torch.nn.functional.pad((x @ self.W.T).relu() @ self.a, (0, 1))


class Bigrams(torch.nn.Module):
    """The language model of the files: a token's row of E are the logits of the next."""

    def __init__(self, text):
        super().__init__()
        self.E = torch.nn.Parameter(closed_form(f"{text} shape (6,6)"))


class Language(Behaviour):
    """Texts of 7 tokens, of which those after -100 are the answer; ``refuse`` gives the file's idk texts."""

    provides = Behaviour.provides | {"text"}
    keeps_outputs = False

    def forward(self, model, batch, features=False):
        labels = batch["labels"]
        seen, mask = torch.where(labels == -100, batch["input_ids"], labels), labels != -100
        logits = torch.cat([torch.zeros_like(model.E[seen[:, :1]]), model.E[seen[:, :-1]]], 1)
        losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), labels, reduction="none")
        return Output((losses * mask).sum(1) / mask.sum(1), logits, mask)

    def divergence(self, student, teacher, temperature=1.0, per="example"):
        return (super().divergence(student, teacher, temperature, per) * student.mask).sum(1) / student.mask.sum(1)

    def complete(self, model, batch, given, most):
        said = batch["labels"][:, :given]
        for _ in range(most):
            said = torch.cat([said, model.E[said[:, -1:]].argmax(-1)], 1)
        return said[:, given:]

    def refuse(self, batch, rows):
        refused = texts("idk")[batch["index"]]
        return {
            k: v.index_copy(0, torch.arange(len(v))[rows], refused[k][rows]) if k in refused else v
            for k, v in batch.items()
        }


def texts(name, masked=True):
    """A view of three texts of the language problem."""
    k = torch.arange(21).view(3, 7)
    ids = {"forget": k * k + k // 3 + 1, "retain": 5 * k + k // 4 + 2, "idk": 2 * k + k // 3}[name] % 6
    labels = ids.clone()
    for row, prompt in enumerate((2, 3, 4) if masked else ()):
        labels[row, :prompt] = -100
        labels[1, -1] = -100
    return Examples({"input_ids": ids, "labels": labels})


E = {"student": "1.2*sin(0.3+0.7k)", "ref": "1.0*cos(0.5+0.9k)"}


def closed_form(text):
    """The array that ``0.6*sin(0.4+0.9k) shape (5,4)`` describes."""
    scale, function, a, b, shape = re.fullmatch(
        rf"({NUMBER})\*(sin|cos)\(({NUMBER})\+({NUMBER})k\) shape (\[.*\]|\(.*\))", text
    ).groups()
    shape = json.loads(f"[{shape[1:-1]}]")
    k = torch.arange(math.prod(shape), dtype=torch.float64).view(shape)
    return float(scale) * getattr(torch, function)(float(a) + float(b) * k)


def tensor(file, name):
    return torch.tensor(file["problem_values"][name], dtype=torch.long if name[0] == "y" else torch.float64)


def sets(file, forget="X_f", retain="X_r"):
    """Two views of D_f followed by D_r; ``X_r[:6]`` names the first rows of one."""
    columns = {
        "x": torch.cat([tensor(file, n) for n in ("X_f", "X_r")]),
        "labels": torch.cat([tensor(file, n) for n in ("y_f", "y_r")]),
    }
    everything, split = torch.arange(len(columns["labels"])), file["problem"]["dims"]["n_forget"]
    rows = {"X_f": everything[:split], "X_r": everything[split:]}

    def view(name):
        name, stop = re.fullmatch(r"(\w+)(?:\[:(\d+)\])?", name).groups()
        return Examples(columns, rows[name][: int(stop) if stop else None])

    return view(forget), view(retain)


def batch_sizes(file):
    """Of the two sets, as ``forget: rows [0:3],[3:6]; retain: [0:4],…`` says."""
    text = file["problem"]["formulas"]["batches"]
    forget, retain = re.search(r"forget:[^[]*\[0:(\d+)\].*retain:[^[]*\[0:(\d+)\]", text).groups()
    return {"forget_batch_size": int(forget), "batch_size": int(retain)}


def settings(inputs):
    """The hyperparameters among the inputs, whether spelled as a key, inside ``args`` or in words: ``SGD lr .05 mom
    .9``.
    """
    inputs = inputs | inputs.get("args", {})
    text = " ".join(v for v in inputs.values() if isinstance(v, str))
    optimizer = re.search(r"\b(sgd|adamw?)\b", text, re.I)
    found = {"optimizer": optimizer[1].lower()} if optimizer else {}
    for name, spellings in SPELLINGS.items():
        keys = [k for k in spellings.split("|") if k in inputs]
        words = re.search(rf"\b(?:{spellings})\b[ =:]*({NUMBER})", text)
        if keys or words:
            found[name] = inputs[keys[0]] if keys else words[1]
    if isinstance(found.get("milestones"), str):
        found["milestones"] = f"[{found['milestones']}]"
    return found


# --- the run
# ------------------------------------------------------------------------------------------------------------


class Listed(Behaviour):
    """Gives the labels listed by the entry, batch after batch."""

    def __init__(self, labels=()):
        self.labels = iter(labels)

    def corrupt(self, batch, rows, draw, pool, other=True):
        labels = batch["labels"].clone()
        labels[rows] = torch.tensor(next(self.labels)).to(labels)[rows]
        return batch | {"labels": labels}

    def refuse(self, batch, rows):
        """The label that stands for a refusal in the NPO paper's synthetic problem."""
        labels = batch["labels"].clone()
        labels[rows] = (batch["index"][rows] + 1) % 3
        return batch | {"labels": labels}

    def divergence(self, student, teacher, temperature=1.0, per="example"):
        self.targets = (teacher.logits / temperature).softmax(-1)
        self.apart = super().divergence(student, teacher, temperature, per)
        return self.apart


class Recorder(Engine):
    """The engine, keeping of every step its epoch, set, size, loss and rate."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, shuffle=False, progress=False, **kwargs)
        self.steps = []

    class Loop(Engine.Loop):
        def __init__(self, engine, *parts):
            super().__init__(engine, *parts)
            self.steps = engine.steps

        def step(self, step, *parts):
            loss = super().step(step, *parts)
            examples = sum(len(rows) for _, rows in step)
            self.steps.append((self.context.epoch, step[0][0], examples, loss, self.rate))
            return loss

    def averages(self, on):
        """Mean loss per example of a set, one for each epoch that visits it."""
        visits = groupby((s for s in self.steps if s[1] == on), key=lambda s: s[0])
        means = (
            (math.fsum(n * loss for _, _, n, loss, _ in steps), sum(n for _, _, n, _, _ in steps))
            for steps in (list(steps) for _, steps in visits)
        )
        return [total / n for total, n in means]


def replay(name, file, student, views, labels=(), original=None, incompetent=None, task=None, **hyperparameters):
    """Run a method from ``student``; unknown hyperparameters are other methods' (args of a parser they share)."""
    known = load_method(name).hints()
    method = load_method(name, **{k: v for k, v in hyperparameters.items() if k in known}, lr_factor=1.0)
    context = Context(task or Listed(labels), student, lambda: student, *views, start=method.start)
    for role, theta in {"original": original, "incompetent": incompetent}.items():
        if theta:
            teacher = theta if isinstance(theta, torch.nn.Module) else Net(file, theta)
            context.note(**{role: teacher.to(context.device).eval().requires_grad_(False)})
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


# --- the families
# -------------------------------------------------------------------------------------------------------


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


def betas(name, entry, file, **hyperparameters):
    """The synthetic problem of the NPO paper with a reference, by β."""

    def after(beta):
        return random_features(
            name, entry, file, beta=beta, original=RandomFeatures(entry["inputs"], reference=True), **hyperparameters
        )

    return {key: after(float(key.removeprefix("beta=")))["beta=None"] for key in entry["expected"]}


def l1_loss(entry, file):
    """The loss in the epoch that a fractional one lies in; at rate 0 nothing moves meanwhile."""
    inputs = entry["inputs"]
    engine = replay(
        "l1_sparse",
        file,
        Net(file, inputs["model"]),
        sets(file, retain=inputs["x"]),
        alpha=inputs["alpha"],
        lr=0.0,
        epochs=inputs["unlearn_epochs"],
        no_l1_epochs=inputs["no_l1_epochs"],
        batch_size=10,
    )
    weight = l1_weights(inputs["alpha"], inputs["unlearn_epochs"], inputs["no_l1_epochs"], engine.context.student)[
        int(inputs["epoch"])
    ]
    return {"loss": engine.steps[int(inputs["epoch"])][3], "alpha_t": weight}


def l1_weights(alpha, epochs, none, student):
    """What the norm weighs in each epoch."""
    method = load_method("l1_sparse", alpha=alpha, epochs=epochs, no_l1_epochs=none)
    norm = sum(p.abs().sum() for p in student.parameters())
    penalties = [method.penalty(types.SimpleNamespace(epoch=e, student=student)) for e in range(1, epochs + 1)]
    return [0 if p is None else (p / norm).item() for p in penalties]


def l1_norm(entry, file):
    student = Net(file, entry["inputs"]["params"])
    norm = load_method("l1_sparse", alpha=1.0).penalty(types.SimpleNamespace(epoch=1, student=student)).item()
    return {"l1": norm, "alpha_schedule_alpha=.01,epochs=4,no_l1=1": l1_weights(0.01, 4, 1, student)}


def delete(entry, file):
    inputs, views = entry["inputs"], sets(file, entry["inputs"]["x"])
    engine = replay(
        "delete",
        file,
        Net(file, inputs["student"]),
        views,
        original=inputs["teacher"],
        temperature=inputs["T"],
        forget_batch_size=len(views[0]),
    )
    task = engine.context.task
    return {
        "soft_targets": task.targets.tolist(),
        "per_sample": (task.apart * inputs["T"] ** 2).tolist(),
        "loss": engine.steps[0][3],
    }


def delete_official(entry, file):
    """Weights after training by the authors' code, by epochs and rate, and the loss of another student."""
    views, inputs = sets(file), entry["inputs"]
    loss = "kl_batchmean_theta_student_on_X_f_full_batch"
    found = {
        key: outcome(
            replay(
                "delete", file, Net(file, inputs["start"]), views, **settings(inputs | {"run": key}) | batch_sizes(file)
            )
        )["params_after"]
        for key in entry["expected"]
        if key != loss
    }
    whole = {"forget_batch_size": len(views[0]), "original": inputs["start"]}
    return found | {loss: replay("delete", file, Net(file, "theta_student"), views, **whole).steps[0][3]}


def rewind(entry, file):
    """The codes count epochs from 0, whose checkpoint they never write."""
    errors, validation = entry["inputs"]["forget_errors_epoch0..E"], entry["inputs"]["forget_class_validation_errors"]
    found = {
        rule: 1 + load_method("scrub_r", rule=rule).rewind(errors[1:], validation[-1])
        for rule in ("nearest", "first_above")
    }
    return {
        "closest_rule(MIA_experiments)": found["nearest"],
        "first_exceed_rule(BadT_experiments)": found["first_above"],
    }


def task_vector(entry, file):
    """The fine-tuned weights are given: no epoch is run."""
    start, tuned, scale = list(entry["inputs"].values())
    method, student = load_method("task_vector", scale=scale), Net(file, re.match(r"theta_\w+", start)[0])
    given = Context(None, student, None, [], [])
    method.prepare(given)
    vector_to_parameters(tensor(file, tuned), student.parameters())
    method.finish(given)
    return {"params": parameters_to_vector(student.parameters()).tolist()}


# --- language
# -----------------------------------------------------------------------------------------------------------


def language_problem(entry, file):
    """The problem itself; the means are over tokens, each text weighing as many as it has."""

    def mean(model, name):
        out = Language().forward(Bigrams(E[model]), texts(name)[torch.arange(3)])
        return (out.total.sum() / out.mask.sum()).item()

    columns = {name: texts(name).columns for name in ("forget", "retain", "idk")}
    return (
        {f"{n}_ids": c["input_ids"].tolist() for n, c in columns.items()}
        | {f"{n}_labels": c["labels"].tolist() for n, c in columns.items()}
        | {
            "E_student_row0": Bigrams(E["student"]).E[0].tolist(),
            "student_forget_nll_mean": mean("student", "forget"),
            "student_retain_nll_mean": mean("student", "retain"),
            "ref_forget_nll_mean": mean("ref", "forget"),
        }
    )


def nll(entry, file):
    return {
        model: Language().forward(Bigrams(E[model]), texts("forget")[torch.arange(3)]).total.tolist() for model in E
    }


def speak(name, file, forget=None, **hyperparameters):
    """Loss and gradient of one step on all three texts; at rate 1 the gradient is the step."""
    student = Bigrams(E["student"])
    before, views = student.E.detach().clone(), (forget or texts("forget"), texts("retain"))
    engine = replay(
        name, file, student, views, original=Bigrams(E["ref"]), task=Language(), lr=1.0, batch_size=3, **hyperparameters
    )
    gradient = before - engine.context.student.E.detach()
    return {"loss": engine.steps[0][3], "grad_E_row0": gradient[0].tolist(), "grad_norm": gradient.norm().item()}


def language(name, entry, file, **hyperparameters):
    """Expected by settings, ``beta=2.5,gamma=0.0,npo_coeff=0.1375``; alone, without D_r, the codes weigh D_f by 1."""
    given = {key: dict(pair.split("=") for pair in key.split(",")) for key in entry["expected"]}
    return {key: speak(name, file, **said, weight=1.0, **hyperparameters) for key, said in given.items()}


def both(entry, file):
    return {key: speak(key[:3], file, retain="none", beta=key.partition("=")[2])["loss"] for key in entry["expected"]}


def undial(entry, file):
    """The official loss is a cross-entropy: ours and the entropy of its target, over all positions but the first of
    texts.
    """
    forget = texts("forget", masked=False)
    forget.columns["labels"][:, 0] = -100
    teacher = Language().forward(Bigrams(E["ref"]), forget[torch.arange(3)]).logits[:, 1:]
    truth = torch.nn.functional.one_hot(forget.columns["labels"][:, 1:], 6)

    def loss(strength):
        entropy = torch.distributions.Categorical(logits=teacher - strength * truth).entropy().mean().item()
        return speak("undial", file, forget, strength=strength)["loss"] + entropy

    return {key: loss(float(key.partition("=")[2])) for key in entry["expected"]}


def flat(entry, file):
    """The official code applies a pair to probabilities averaged over a batch and over all of the 6 positions that
    follow another.
    """
    method, batches = load_method("flat"), {name: texts(name)[torch.arange(3)] for name in ("forget", "idk")}
    outputs = {name: Language().forward(Bigrams(E["student"]), batch) for name, batch in batches.items()}
    p = {name: (method.probability(batches[name], out) * out.mask.sum(1) / 6).mean() for name, out in outputs.items()}
    toy = [
        torch.tensor(-entry["inputs"]["toy"][f"prob_loss_{name}"], dtype=torch.float64) for name in ("good", "forget")
    ]

    def contrast(key, good, forget):
        g, conjugate = load_method(
            "flat", divergence=key.lower().replace("-", "_").replace("jenson", "jensen")
        ).functions()
        return (conjugate(forget) - g(good)).item()

    return {
        "probloss_forget": -p["forget"].item(),
        "probloss_good": -p["idk"].item(),
        "loss": {key: contrast(key, p["idk"], p["forget"]) for key in entry["expected"]["loss"]},
        "toy_loss": {key: contrast(key, *toy) for key in entry["expected"]["toy_loss"]},
    }


def ul(entry, file):
    """The language model that has learnt a text by heart; the loss is over tokens, so its mean is taken text by
    text.
    """
    heart, task, batch = Bigrams(E["student"]), Language(), texts("forget", masked=False)[torch.arange(3)]
    with torch.no_grad():
        for a, b in itertools.pairwise(batch["input_ids"][0]):
            heart.E[a, b] += 1.5
        el = {f"el_{n}-gram": extraction(task, heart, batch, n) for n in (2, 3)}
        batch["labels"][:, 0] = -100  # nothing comes before it
        ma = accuracy(task, heart, batch).mean().item()
    view = texts("forget")
    tokens = [(view[torch.tensor([i])]["labels"] != -100).sum().item() for i in range(3)]
    losses = [speak("ul", file, view.select([i]), ma_threshold=1.0, el_threshold=1.0)["loss"] for i in range(3)]
    return {
        "el_per_example(float32)": {key: values.tolist() for key, values in el.items()},
        "ma": ma,
        "el_mean": {f"d/{key}": values.mean().item() for key, values in el.items()},
        "E_mem_row0": heart.E[0].tolist(),
        "negative_loss(E_student, forget labels)": sum(loss * n for loss, n in zip(losses, tokens, strict=True))
        / sum(tokens),
    }


def scrub_kl(entry, file):
    """The divergence is what the first step over D_f maximises."""
    inputs, views = entry["inputs"], sets(file, entry["inputs"]["x"])
    return {
        key: -replay(
            "scrub",
            file,
            Net(file, inputs["student"]),
            views,
            original=inputs["teacher"],
            msteps=1,
            temperature=float(key.removeprefix("T=")),
            forget_batch_size=len(views[0]),
        ).steps[0][3]
        for key in entry["expected"]
    }


def scrub(entry, file):
    inputs = entry["inputs"]
    if inputs.get("beta"):
        raise ValueError(f"SCRUB has no representation term, the entry weighs one by beta={inputs['beta']}")
    engine = replay(
        "scrub",
        file,
        Net(file, inputs["start"]),
        sets(file),
        original=inputs["teacher"],
        **settings(inputs) | batch_sizes(file),
    )
    return outcome(engine) | {
        "lr_returned_per_epoch": list({epoch: lr for epoch, *_, lr in engine.steps}.values()),
        "max_loss_avg_per_max_epoch": engine.averages("forget"),
        "min_loss_avg_per_epoch": engine.averages("retain"),
    }


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
    return replay(
        "bad_t",
        file,
        Net(file, inputs.get("start", inputs.get("student"))),
        (forget, retain),
        **given,
        original=inputs.get("full_teacher"),
        incompetent=inputs.get("unlearning_teacher", "theta_bad"),
    )


def badt_loss(entry, file):
    def loss(key):
        per = "example" if key.startswith("batchmean") else "class"
        return badt(entry, file, temperature=float(key.rpartition("T=")[2]), per=per).steps[0][3]

    return {key: loss(key) for key in entry["expected"]}


def salun_mask(entry, file):
    """The mask is set in ``prepare``: no epoch is needed."""
    expected, result = entry["expected"], {}
    for ratio in {key.rpartition("_")[2] for key in expected if key.startswith(("mask_", "ones_"))}:
        context = replay(
            "salun",
            file,
            Net(file, entry["inputs"]["params"]),
            sets(file),
            saliency_ratio=float(ratio),
            epochs=0,
            **batch_sizes(file),
        ).context
        mask = parameters_to_vector(context.masks.values()).int().tolist()
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
    engine = replay(
        "salun",
        file,
        Net(file, inputs["start"]),
        sets(file),
        labels=inputs["random_labels_per_forget_batch_in_order"],
        **found | batch_sizes(file),
    )
    result, movable = outcome(engine), parameters_to_vector(engine.context.masks.values())
    if isinstance(mask, list) and movable.int().tolist() != mask:
        raise ValueError("the entry's mask is not the saliency mask of its start")
    after, before = torch.tensor(result["params_after"], dtype=torch.float64), tensor(file, inputs["start"])
    drift = (after - before)[~movable.bool().cpu()].abs()
    return result | {"max_abs_drift_on_masked_out": drift.max().item() if len(drift) else 0.0}


def superloss(entry, file):
    """Of the losses in the precision the entry names; σ is the gradient of the value."""
    name, on, precision = re.fullmatch(r"(\w+) on (\w+) cast to (\w+)", entry["inputs"]["logits"]).groups()
    with torch.no_grad():
        logits = Net(file, name)(tensor(file, on)).to(getattr(torch, precision))
    losses = cross_entropy(logits, tensor(file, on.replace("X", "y")), reduction="none").requires_grad_()
    value = SuperLoss(entry["inputs"]["lam"], entry["inputs"]["tau"])(losses)
    return {"sigma": torch.autograd.grad(value.sum(), losses)[0].tolist(), "loss": value.mean().item()}


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
    r"npo_synth_non_paired_dpo": functools.partial(betas, "npo", retain="none"),
    r"npo_synth_non_paired_dpo_GDiff": functools.partial(betas, "npo", retain="gdiff"),
    r"npo_synth_dpo": functools.partial(betas, "dpo", retain="none"),
    r"npo_synth_dpo_KL": functools.partial(betas, "dpo", retain="kl"),
    r"npo_synth_idk": functools.partial(random_features, "idk"),
    r"optml_l1_sparse.*|unlearn_sparse_ft_l1.*": functools.partial(sgd, "l1_sparse"),
    r"optml_l1_norm": l1_norm,
    r"mubench_l1_alpha\d.*": l1_loss,
    r"delete_T.*": delete,
    r"delete_official_params": delete_official,
    r"scrub_r_rewind": rewind,
    r"task_vector_.*": task_vector,
    r"lm_problem": language_problem,
    r"npo_batch_nll": nll,
    r"tofu_npo": functools.partial(language, "npo", retain="none"),
    r"tofu_dpo": functools.partial(language, "dpo", retain="none"),
    r"tofu_simnpo": functools.partial(language, "sim_npo", retain="none"),
    r"ou_dpo_npo": both,
    r"undial_official": undial,
    r"flat_losses": flat,
    r"ul_el_ma": ul,
    r"badt_loss.*": badt_loss,
    r"badt_params.*": lambda entry, file: outcome(badt(entry, file)),
    r"scrub_distillkl.*": scrub_kl,
    r"scrub_params_.*": scrub,
    r"salun_mask.*": salun_mask,
    r"salun_rl_.*pre_feb.*": functools.partial(salun, hold=False),
    r"salun_rl_.*": salun,
    # In float64 that code answers NaN where the weight is e. MU-Bench's reads weights from a table, to 0.2 %, and
    # divides the mean's sum
    # of losses by a sum of weights: neither is repeated here.
    r"superloss_chou_.*_float32": superloss,
}
