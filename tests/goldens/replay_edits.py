"""Replays of edits of weights (dampening, Fisher noise, influence, reversal) and of methods that measure
representations.
"""

import importlib.util
from dataclasses import replace
from pathlib import Path

import torch
from torch.nn.utils import parameters_to_vector

from mubench.examples import Examples
from mubench.methods import laf
from mubench.models.behaviour import Behaviour, Output
from mubench.registry import load_method
from mubench.train.context import Context
from mubench.train.gradients import importance
from mubench.train.schedule import Schedule

spec = importlib.util.spec_from_file_location("replay_methods", Path(__file__).parent / "replay_methods.py")
base = importlib.util.module_from_spec(spec)
spec.loader.exec_module(base)


class Headed(Behaviour):
    head = "fc2"

    def __init__(self, classes):
        self.num_labels = classes


def context(file, theta, views, **hyperparameters):
    """Student, sets and sizes of batches of a problem, before anything is done."""
    student = base.Net(file, theta)
    made = Context(Headed(file["problem"]["dims"]["C"]), student, lambda: student, *views)
    made.note(batch_size=1, forget_batch_size=1)
    return made


def run(name, made, **hyperparameters):
    method = load_method(name, **hyperparameters)
    base.Recorder(method, made, method.recipe(base.PLAIN)).run()
    return made


def flat(values):
    return torch.cat([v.flatten() for v in values.values()]).tolist()


def params(made):
    return parameters_to_vector(made.student.parameters()).tolist()


def ssd(entry, file):
    inputs = entry["inputs"]
    sizes = {"batch": inputs["forget_batch"]}
    assert inputs["full_batch"] == inputs["forget_batch"] and inputs["exponent"] == inputs["lower_bound"] == 1
    made = context(file, inputs["params"], base.sets(file))
    forget, full = (importance(made, view, inputs["forget_batch"]) for view in (made.forget, made.forget + made.retain))
    before = params(made)
    run(
        "ssd", made, alpha=inputs["selection_weighting(alpha)"], dampening=inputs["dampening_constant(lambda)"], **sizes
    )
    return {
        "importance_forget": flat(forget),
        "importance_full": flat(full),
        "params_after": params(made),
        "n_dampened": sum(a != b for a, b in zip(before, params(made), strict=True)),
    }


def fisher(entry, file):
    inputs, made = entry["inputs"], context(file, entry["inputs"]["params"], base.sets(file))
    method = load_method("fisher", labels="expected")
    information = method.information(made)
    names = dict(made.student.named_parameters())
    variance = lambda name: (
        inputs["alpha"] * method.variance(information[name], method.is_head(name, names[name], made.task))
    )
    return {
        name: {"grad2_acc": values.tolist(), "var": variance(name).tolist()} for name, values in information.items()
    }


def influence(entry, file):
    inputs = entry["inputs"]
    made = context(file, inputs["start"], base.sets(file))
    assert inputs["N_in_woodfisher"] == load_method("influence").samples
    return {"params_after": params(run("influence", made, alpha=inputs["alpha"], batch_size=inputs["batch_size"]))}


def eul(entry, file):
    """The three parts of the first step's loss: adapters begin as nothing, so the student answers as it starts."""
    inputs = entry["inputs"]
    sizes = {
        name: file["problem"]["dims"][f"n_{on}"]
        for name, on in (("forget_batch_size", "forget"), ("batch_size", "retain"))
    }

    def loss(**weights):
        weights = {"alpha": 0.0, "task_weight": 0.0, "gamma": 0.0} | weights
        return base.replay(
            "eul", file, base.Net(file, inputs["student"]), base.sets(file), original=inputs["orig"], **weights, **sizes
        ).steps[0][3]

    forget = loss()
    kl_forget, kl_retain = -forget * sizes["forget_batch_size"], (loss(alpha=1.0) - forget) * sizes["batch_size"]
    return {
        "kl_forget_sum": kl_forget,
        "kl_retain_sum": kl_retain,
        "L_KL": inputs["alpha"] * kl_retain - kl_forget,
        "L_TASK_sum_ce_retain": (loss(task_weight=1.0) - forget) * sizes["batch_size"],
    }


def wave(function, start, step, *shape):
    return function(start + step * torch.arange(shape[0] * shape[1], dtype=torch.float64)).view(shape)


class Fused(torch.nn.Module):
    """The entry's model of two inputs."""

    def __init__(self, s):
        super().__init__()
        self.Wi = torch.nn.Parameter(0.5 * wave(torch.sin, 0.3 + s, 0.7, 4, 4))
        self.Wf = torch.nn.Parameter(0.4 * wave(torch.sin, 1.1 + s, 0.5, 3, 8))
        self.register_buffer("texts", 0.6 * wave(torch.cos, 0.1, 0.9, 8, 4))


class Pairs(Behaviour):
    def __init__(self, order):
        self.order = torch.tensor(order)

    def forward(self, model, batch, features=False):
        image = (batch["x"] @ model.Wi.T).tanh()
        fused = (torch.cat([image, model.texts[batch["text"]]], 1) @ model.Wf.T).tanh()
        return Output(image.sum(1) * 0, None, None, image if batch["text"].min() < 0 else fused)

    def paired(self, batch, order):
        self.seen = batch["text"][self.order]
        return batch | {"text": self.seen}

    def one_input(self, batch, what):
        assert what == "pictures"
        return batch | {"text": torch.full_like(batch["text"], -1)}


def multi_delete(entry, file):
    inputs = entry["inputs"]
    x, texts = (
        torch.cat([base.tensor(file, "X_f"), base.tensor(file, "X_r")[:6]]),
        torch.tensor([0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3]),
    )
    columns, seen = {"x": x, "text": texts}, []

    def step(**on):
        task, student = Pairs(inputs["perm"]), Fused(0.35)
        made = Context(task, student, lambda: student, Examples(columns, range(6)), Examples(columns, range(6, 12)))
        made.note(original=Fused(0.0).to(made.device).eval().requires_grad_(False))
        method = load_method("multi_delete", alone="pictures", epochs=1, **{"md": 0.0, "mkr": 0.0, "ukr": 0.0} | on)
        engine, norms = base.Recorder(method, made, method.recipe(replace(base.PLAIN, batch_size=6))), []
        student.Wi.register_hook(lambda gradient: norms.append(gradient))
        engine.run()
        seen[:] = [str(t) for t in task.seen.tolist()]
        return engine.steps[0][3], sum(norms).norm().item()

    def variant(name):
        parts = {"md": "md" in name, "mkr": "multi" in name, "ukr": "image" in name}
        losses = {part: step(**{part: 1.0})[0] if on else 0 for part, on in parts.items()}
        loss, norm = step(**{part: float(on) for part, on in parts.items()})
        return {
            "train_loss": loss,
            "train_loss_md": losses["md"],
            "train_loss_multi": losses["mkr"],
            "train_loss_uni": losses["ukr"],
            "grad_norm_Wi": norm,
        }

    found = {name: variant(name) for name in entry["expected"] if name.startswith("vlul")}
    return found | {"text_input_after": seen}


def laf_losses(entry, file):
    mine, theirs = wave(torch.sin, 0.1, 0.6, 5, 4), wave(torch.cos, 0.4, 0.8, 5, 4)
    forget = wave(torch.sin, 0.9, 0.5, 3, 4), wave(torch.cos, 1.2, 0.35, 3, 4)

    def cosine(temperature):
        method = load_method("laf", temperature=temperature)
        out = [Output(f[:, 0], features=f) for f in forget]
        return (
            method.turned(None, None, Output(None, features=mine), Output(None, features=theirs)).sum()
            - 5 * method.all_turned(None, None, *out).mean()
        ).item()

    return {
        "nmse(retain)": laf.unusualness(mine, theirs).sum().item(),
        "cosine_temp5": cosine(5.0),
        "cosine_temp20": cosine(20.0),
        "vae(x_out=e1,x=e2,mu=e1,sigma=exp(e2))": laf.vae_loss(mine, theirs, mine, theirs).item(),
    }


def unsir(entry, file):
    inputs, made = entry["inputs"], context(file, entry["inputs"]["model"], base.sets(file))
    method = load_method("unsir", noise_lr=inputs["adam_lr"], noise_steps=inputs["steps"])
    noise, losses = method.learnt(made, "x", wave(torch.sin, 0.2, 0.45, 6, 4), torch.full((6,), inputs["class"]))
    return {"losses": losses, "x_after": noise.tolist()}


def amnesiac(entry, file):
    """The official batches lie in the order of the data; D_f is class 2."""
    (first, second), inputs, record = base.sets(file), entry["inputs"], {}
    both, labels = first + second, first.columns["labels"]
    forget, retain = both.select((labels == 2).nonzero().flatten()), both.select((labels != 2).nonzero().flatten())
    place = {row: i for i, row in enumerate((forget + retain).rows.tolist())}
    ordinary = [r for r in range(file["problem"]["dims"]["n_forget"], len(labels)) if labels[r] != 2][:4]
    batches = [list(rows) for rows in torch.arange(len(labels)).split(4)] + [ordinary]

    class Listed(Schedule):
        def steps(self, epoch, count=False):
            return [[("union", torch.tensor([place[int(row)] for row in rows]))] for rows in batches]

    class InOrder(base.Recorder):
        Schedule = Listed

    method = load_method(
        "amnesiac", repair=0, lr=inputs["lr"], momentum=inputs["momentum"], epochs=inputs["epochs"], optimizer="sgd"
    )
    made, undo, steps = context(file, inputs["start"], (forget, retain)), method.undo, []
    add_up = method.add_up

    def added_up(context):
        if method.before is not None:
            steps.append(f"e{(context.step - 1) // len(batches) + 1}b{(context.step - 1) % len(batches):04}.pkl")
        add_up(context)

    def undone(context):
        record.setdefault("params_before", params(context))  # asked again at the end of the run
        undo(context)

    method.undo, method.add_up = undone, added_up
    InOrder(method, made, method.recipe(base.PLAIN)).run()
    return record | {"params_after_reversal": params(made), "recorded_steps": steps}


def esd_targets(entry, file):
    asked, free, mine = (
        torch.tensor(entry["inputs"][k], dtype=torch.float64)
        for k in ("eps_cond(frozen)", "eps_null(frozen)", "eps_student")
    )

    def loss(key):
        kind, eta = key.split("_eta=")
        target = load_method("esd", eta=float(eta) - (kind == "new")).target(asked, free)
        return (mine - target).square().mean().item()

    return {key: loss(key) for key in entry["expected"]}


def forget_me_not(entry, file):
    probabilities = wave(torch.sin, 0.2, 0.7, 6, 4).view(1, 2, 3, 4).softmax(-1)
    named = torch.zeros(1, 4, dtype=torch.bool)
    named[0, entry["inputs"]["concept_positions"]] = True
    norm = load_method("forget_me_not").norm
    return {
        "loss_one_layer": norm([probabilities], named).item(),
        "loss_two_equal_layers": norm([probabilities] * 2, named).item(),
    }


FAMILIES = {
    r"esd_targets": esd_targets,
    r"forget_me_not_loss": forget_me_not,
    r"ssd_bs.*": ssd,
    r"fisher_forgetting_variance_golatkar": fisher,
    r"influence_woodfisher_params": influence,
    r"eul_paper_formula": eul,
    r"multidelete_train_step": multi_delete,
    r"laf_losses": laf_losses,
    r"unsir_noise": unsir,
    r"amnesiac_reversal": amnesiac,
}
