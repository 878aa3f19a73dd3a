"""What terms and methods do, measured where every output is free: the witness of what they declare for Table 2."""

import functools

import torch

from mubench.examples import Examples
from mubench.methods.base import Corruption, Method, Term
from mubench.models.behaviour import Behaviour, Output, forward
from mubench.registry import load_method
from mubench.train.context import Context
from mubench.train.engine import Engine
from mubench.train.recipe import Recipe

EXAMPLES, FORGET, CLASSES, WIDTH, PROMPTS = 12, 6, 5, 4, 12
RECIPE = Recipe(lr=0.01, epochs=1, batch_size=6, optimizer="sgd", weight_decay=0.0, clip=0.0)
STARTS, STEPS, RATE = 2, 150, 0.5
FAR = 20.0  # how far beyond the truth an output lies that is still pushed away
NEAR, SHARE = 0.05, 0.1
KEYS = torch.linspace(-1, 1, 16, dtype=torch.float64).view(4, 4)  # of the tokens of every prompt


# -- a problem that all methods work on --------------------------------------------------------------------------------


class Network(torch.nn.Module):
    """A classifier of numbers and a prompt, with a cross-attention beside it."""

    def __init__(self, seed=0):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.block, self.prompts = torch.nn.Module(), torch.nn.Embedding(PROMPTS, WIDTH)
            self.body, self.classifier = torch.nn.Linear(3, WIDTH), torch.nn.Linear(WIDTH, CLASSES)
            self.block.attn2 = attention = torch.nn.Module()
            attention.to_q, attention.to_k = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)
            attention.heads, attention.scale = 1, 1.0
        self.double()

    def forward(self, x, prompt=None):
        return self.classifier(self.body(x) + (0 if prompt is None else self.prompts(prompt)))


class Free(Behaviour):
    """A task that gives whatever methods ask for; the student's outputs are free tensors, those of others a network's.

    worded: whether an example is a text of one token.
    free: name → one row for each example and prompt: its ``logits``, ``features`` and ``places`` of attention.
    """

    provides = Behaviour.provides | {"signal", "pairs", "prompts", "text"}
    keeps_outputs, num_labels, free, student = False, CLASSES, None, None

    def __init__(self, worded=False):
        self.worded = worded

    def forward(self, model, batch, features=False):
        labels = batch["labels"].flatten()
        if self.free is not None and model is self.student:
            rows = batch["index"], batch.get("prompt", 0)
            model.block.attn2.to_q(self.free["places"][rows])
            model.block.attn2.to_k(KEYS.expand(len(labels), 4, 4))
            logits, states = (self.free[name][rows] for name in ("logits", "features"))
            loss = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
            out = Output(loss, logits, None, states)
        else:
            out = super().forward(model, batch | {"labels": labels}, features)
        if self.worded:
            out.logits, out.mask = out.logits[:, None], torch.ones(len(labels), 1, dtype=torch.bool)
        return out

    def divergence(self, student, teacher, temperature=1.0, per="example"):
        apart = super().divergence(student, teacher, temperature, per)
        return apart[:, 0] if self.worded else apart

    def refuse(self, batch, rows):
        labels = batch["labels"].clone()
        labels[rows] = (labels[rows] + 1) % CLASSES
        return batch | {"labels": labels}

    def asked(self, batch, what):
        return batch | {"prompt": batch["prompt"] * 0 if what == "nothing" else batch["prompt"] + 1}

    def concepts(self, device):
        return torch.arange(4).expand(PROMPTS, 4) == 1

    def paired(self, batch, order):
        return batch | {"prompt": batch["prompt"][order]}

    def one_input(self, batch, what):
        blank = (
            {"x": batch["x"] * 0, "prompt": batch["prompt"] + 6} if what == "text" else {"prompt": batch["prompt"] * 0}
        )
        return batch | blank


def trained(measure, method, task, network, fresh, sets, recipe=RECIPE, **facts):
    """What ``measure(context)`` finds when the method is prepared and its training would begin."""

    class Stopped(Engine):
        class Loop:
            def __init__(self, engine, *_):
                self.engine = engine

            def run(self):
                self.engine.found = measure(self.engine.context)

    context = Context(task, network, fresh, *sets, start=method.start, **facts)
    engine = Stopped(method, context, method.recipe(recipe), progress=False, validate=lambda model: 0.0)
    engine.run()
    return engine.found


def problem(worded):
    """D_f, D_r: a network of this kind knows their labels."""
    rng, rows = torch.Generator().manual_seed(0), torch.arange(EXAMPLES)
    columns = {"x": 3 * torch.randn(EXAMPLES, 3, dtype=torch.float64, generator=rng), "prompt": 1 + rows % 4}
    with torch.no_grad():
        labels = Network()(**columns).argmax(-1)
    columns["labels"] = labels[:, None] if worded else labels
    return Examples(columns, rows[:FORGET]), Examples(columns, rows[FORGET:])


# -- the corruption of a term ------------------------------------------------------------------------------------------


def corruptions(method, number, **kind):
    """The `Corruption`s that a method's term shows.

    number: of the term among the method's.
    kind: of the task (see `Free`).
    """
    task = Free(**kind)
    sets = problem(task.worded)
    find = lambda context: _shown(method, method.terms[number], context, task, sets[0])
    facts = {"validation": sets[1], "model_name": "network"}
    found = trained(find, method, task, Network(), lambda: Network(1), sets, **facts)
    if found == "truth":  # taught, and by the end of the run undone?
        return {Corruption.GRADIENT} if loss_of(method) > loss_of(baseline(method)) + 1e-6 else set()
    return found


def _shown(method, term, context, task, original_forget):
    """The corruptions of a term's own; ``truth`` where it ends at the true labels, or at the original's outputs."""
    view, rng = context.forget, torch.Generator().manual_seed(1)
    batch = context.batch(view, torch.arange(len(view)), "effects")
    given = batch["x"][:, None] if "prompt" in batch else torch.full((1, 1, 3), torch.inf)
    if not (given == original_forget[torch.arange(FORGET)]["x"]).all(-1).any():
        return {Corruption.DATA}  # what is learnt are no examples of D_f
    task.student = context.student
    shape = {"logits": (CLASSES,), "features": (WIDTH,), "places": (3, 4)}
    table = {
        name: torch.randn(EXAMPLES, PROMPTS, *of, dtype=torch.float64, generator=rng) for name, of in shape.items()
    }
    own = batch["index"], batch["prompt"]
    task.free = None
    with torch.no_grad():
        truth = task.forward(context.original, batch, features=True)
        blank = task.forward(context.incompetent, batch, features=True)

    def value(free):
        task.free = free
        return term.weight * values(term, context, task, batch).sum()

    def slopes(free):
        total = value(free)
        found = torch.autograd.grad(total, [*free.values()], allow_unused=True) if total.requires_grad else [None] * 3
        return {name: 0 * t if g is None else g for (name, t), g in zip(free.items(), found, strict=True)}

    def start(shift=0):
        free = {name: tensor.clone() for name, tensor in table.items()}
        for tensor in free.values():
            tensor[own] += shift * torch.randn(tensor[own].shape, dtype=torch.float64, generator=rng)
        return {name: tensor.requires_grad_() for name, tensor in free.items()}

    def end(free):
        optimizer = torch.optim.Adam(free.values(), lr=RATE)
        for step in range(STEPS):
            for group in optimizer.param_groups:
                group["lr"] = RATE * (1 - step / STEPS)
            for tensor, slope in zip(free.values(), slopes(free).values(), strict=True):
                tensor.grad = slope
            optimizer.step()
        return outputs(free)

    def outputs(free):
        task.free = free
        attention = context.student.block.attn2
        with torch.no_grad():
            keys = attention.to_k(KEYS)
            named = (attention.to_q(free["places"][own]) @ keys.T).softmax(-1)[..., 1:].sum(-1)
            return {
                "logits": free["logits"][own].softmax(-1),
                "features": free["features"][own].detach(),
                "places": named,
            }

    begun = slopes(start())
    moved = [name for name, slope in begun.items() if slope[own].abs().max() > 1e-12]
    starts = [start(1.5) for _ in range(STARTS)]
    before = outputs(starts[0])
    ends = [end(free) for free in starts]
    near = lambda a, b: bool(((a - b).abs() < NEAR * (1 + b.abs())).all())
    flat = lambda out: {
        "logits": out.logits.view(FORGET, -1).softmax(-1),
        "features": out.features,
        "places": before["places"],
    }
    same = moved and all(near(other[name], ends[0][name]) for name in moved for other in ends[1:])
    found = set()
    if same:
        labels = torch.nn.functional.one_hot(batch["labels"].flatten(), CLASSES).double()
        if all(near(ends[0][n], flat(truth)[n]) or n == "logits" and near(ends[0][n], labels) for n in moved):
            return "truth"
        found |= {Corruption.MODEL if all(near(ends[0][n], flat(blank)[n]) for n in moved) else Corruption.DATA}
    return found | ({Corruption.GRADIENT} if _pushed(slopes, start(), truth, batch, own) else set())


def _pushed(slopes, free, truth, batch, own):
    """Whether outputs that lie far beyond the truth already are pushed on."""
    labels, away = batch["labels"].flatten(), torch.randn(FORGET, WIDTH, dtype=torch.float64)
    away = away / away.norm(dim=-1, keepdim=True)
    with torch.no_grad():
        free["logits"][(*own, labels)] -= FAR
        free["features"][own] = truth.features.view(FORGET, -1) + FAR * away
    found = slopes(free)
    logits, features = found["logits"][own], found["features"][own]
    share = lambda towards, slope: (towards / slope.flatten(1).norm(dim=-1).clamp(min=1e-300)).min()
    pushed = share(logits[torch.arange(FORGET), labels], logits), share(-(features * away).sum(-1), features)
    return max(pushed) > SHARE


def values(term, context, task, batch):
    """[B]: what a term measures of a batch, as the objective takes it."""
    rows, features = torch.arange(len(batch["index"])), term.measure == "rep"
    given = batch
    if term.corrupts:
        draw = (batch["index"] * 0.37) % 1
        refused = term.target == "refusal"
        given = (
            task.refuse(batch, rows)
            if refused
            else task.corrupt(batch, rows, draw, context.retain, term.target == "wrong")
        )
    layer = context.layer(term.layer)
    if isinstance(task, Free):
        student = task.forward(context.student, given, features=True)
        student.features = student.features[:, None] if layer else student.features
    else:
        student = forward(task, context.student, given, features and not layer, [layer] if layer else ())[layer]
    teacher = None
    if term.taught:
        teacher = context.teacher(term.target).answer(given, slice(None), features and not layer, layer)
    if term.how:
        return term.how(context, given, student, teacher)
    if term.measure == "loss":
        return student.loss
    if features:
        return context.task.distance(student, teacher)
    return context.task.divergence(student, teacher, term.temperature, term.per)


# -- the loss after a whole run ----------------------------------------------------------------------------------------


def baseline(method):
    """What a method that undoes what it has learnt of D_f is compared with: doing nothing; for one that begins with a
    new model, training it by the same settings on all of D.
    """
    if method.start == "original":
        return load_method("original")
    terms = tuple(Term(on, "loss", "true") for on in ("forget", "retain"))
    known = {name: value for name, value in method.hyperparameters().items() if name in Method.hints()}
    return type("Baseline", (Method,), {"terms": terms, "start": method.start})(**known)


@functools.cache
def _problem_of_classes():
    return problem(False)


def loss_of(method):
    """The mean loss on D_f after a run of the method from a network that knows D_f's labels only in part."""
    method = type(method)(**method.hyperparameters() | {"lr": 0.01, "lr_factor": 1.0})
    sets = _problem_of_classes()
    task = Free()
    context = Context(task, Network(2), lambda: Network(1), *sets, start=method.start, validation=sets[1])
    Engine(method, context, method.recipe(RECIPE), progress=False).run()
    with torch.no_grad():
        return task.forward(context.student.eval(), sets[0][torch.arange(FORGET)]).loss.mean().item()


# -- what a method changes ---------------------------------------------------------------------------------------------


def changed(cls, run, factor=1.0, **settings):
    """What a run of a method changes, as a dict.

    cls: the method's class.
    run: ``run(cls)`` → the unlearned model, from one and the same original.
    factor: what its penalty is multiplied by.
    settings: hyperparameters.

    ``before`` and ``after``: name → weight. ``added``: names of weights that exist only while it trains. ``chosen``:
    the shares of D_f that the epochs select. ``penalised``: whether there is a penalty.
    """
    seen, found = set(), {"chosen": [], "penalised": False}

    class Watched(cls):
        __doc__ = cls.__doc__

        def prepare(self, context):
            found["before"] = {name: p.detach().clone() for name, p in context.student.named_parameters()}
            super().prepare(context)

        def penalty(self, context):
            value = super().penalty(context)
            found["penalised"] |= value is not None
            return value if value is None else factor * value

        def select(self, context):
            chosen = super().select(context)
            found["chosen"].append(1.0 if chosen is None else len(chosen) / len(context.forget))
            return chosen

        def after_epoch(self, context):
            seen.update(name for name, _ in context.student.named_parameters())
            return super().after_epoch(context)

    for name, value in settings.items():
        setattr(Watched, name, value)
    found["after"] = {name: p.detach() for name, p in run(Watched).named_parameters()}
    return found | {"added": seen - {*found["after"]}}
