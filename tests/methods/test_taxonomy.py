"""The taxonomy is what methods do: what they declare for Table 2 is checked by its effect."""

import pytest
import torch

import mubench
from effects import changed, corruptions
from mubench import contracts, registry
from mubench.errors import MubenchError
from mubench.methods.base import Corruption, Method, Parameters, Term
from mubench.registry import load_method

GRADIENT, DATA, MODEL = Corruption
KINDS = dict.fromkeys(("flat", "dpo"), {"worded": True})  # of the problem (`effects.Free`)
VARIANTS = [(name, {}) for name in registry.methods.modules] + [
    ("salun", {"labels": "prompt"}),
    ("sga_tau", {"sga_epochs": 0}),
]
DECLARED = [
    (name, passed, number)
    for name, passed in VARIANTS
    for number, term in enumerate(load_method(name, **passed).terms)
    if term.corruption
]
COMPUTED = [
    ("neggrad", {}, 0),
    ("scrub", {}, 0),
    ("eul", {}, 1),
    ("rand_label", {}, 0),
    ("idk", {}, 0),
    ("bad_t", {}, 0),
]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Problems this small are slower on more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# --- corruption -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name, passed, number", DECLARED + COMPUTED)
def test_a_corruption_is_what_the_term_does(name, passed, number):
    method = load_method(name, **passed)
    assert corruptions(method, number, **KINDS.get(name, {})) == {*method.terms[number].corruptions}


def ascent(context, batch, student, teacher):
    return -student.loss


def bounded_ascent(context, batch, student, teacher):
    return (-student.loss).exp()


def descent(context, batch, student, teacher):
    return 2 * student.loss


def other_class(context, batch, student, teacher):
    return torch.nn.functional.cross_entropy(student.logits, (batch["labels"] + 1) % 5, reduction="none")


def other_class_and_ascent(context, batch, student, teacher):
    return other_class(context, batch, student, teacher) - student.loss


def imitation(context, batch, student, teacher):
    return context.task.divergence(student, teacher)


TOYS = [
    (Term("forget", "loss", "true", how=ascent), {GRADIENT}),
    (Term("forget", "loss", "none", how=bounded_ascent), {GRADIENT}),
    (Term("forget", "loss", "true", how=descent), set()),
    (Term("forget", "loss", "true", how=other_class), {DATA}),
    (Term("forget", "loss", "none", how=other_class_and_ascent), {DATA, GRADIENT}),
    (Term("forget", "logit", "incompetent", how=imitation), {MODEL}),
    (Term("forget", "logit", "original", how=imitation), set()),
    (Term("forget", "logit", "original", -1.0, how=imitation), {GRADIENT}),
]


@pytest.mark.parametrize("term, shown", TOYS, ids=lambda part: getattr(getattr(part, "how", None), "__name__", ""))
def test_a_wrong_declaration_is_noticed(term, shown):
    """Each toy shows one set of corruptions: any other that it may declare is not what it does."""
    toy = type("Toy", (Method,), {"terms": (term,), "schedule": "forget_only", "lr": 0.01, "name": "toy"})()
    assert corruptions(toy, 0) == shown


@pytest.mark.parametrize("wrong", ["Grad", "Data", ["Data"], None, (DATA, "Grad"), (Parameters.DENSE,), True])
def test_a_mistyped_corruption_is_refused(wrong):
    with pytest.raises(MubenchError, match=r"^corruption=.*: give one of Corruption.GRADIENT, Corruption.DATA"):
        Term("forget", "loss", "true", corruption=wrong)


@pytest.mark.parametrize(
    "given",
    [
        dict(on="retain", measure="loss", target="true", corruption=DATA),
        dict(on="forget", measure="loss", target="true", weight=-1.0, corruption=GRADIENT),
        dict(on="forget", measure="loss", target="wrong", corruption=DATA),
        dict(on="forget", measure="logit", target="incompetent", corruption=(MODEL,)),
    ],
)
def test_what_is_computed_is_not_declared(given):
    with pytest.raises(MubenchError, match="is to be left out"):
        Term(**given)


def test_one_corruption_is_a_tuple_of_one():
    assert Term("forget", "loss", "true", corruption=DATA) == Term("forget", "loss", "true", corruption=(DATA,))
    both = Term("forget", "loss", "true", corruption=(DATA, GRADIENT))
    assert type("Toy", (Method,), {"terms": (both,)})().taxonomy()["corruption"] == "Data + Grad"


# --- parameters -------------------------------------------------------------------------------------------------------


class Deep(torch.nn.Module):
    """A classifier of five layers."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.layers = torch.nn.ModuleList(torch.nn.Linear(6, 6) for _ in range(5))
            self.classifier = torch.nn.Linear(6, 4)

    def forward(self, x):
        for layer in self.layers:
            x = x + layer(x).tanh()
        return self.classifier(x)


def runner(method):
    """``run(cls)`` → the model that a method with these needs makes of a small problem."""
    if method.needs <= contracts.PROBLEM:
        sets = contracts._problem(12, 0), contracts._problem(24, 1)
        facts = {"validation": contracts._problem(12, 2), "fresh": Deep, "head": "classifier", "batch_size": 8}
        return lambda cls: mubench.unlearn(Deep(), *sets, cls, **facts, progress=False).model
    tasks = [name for name in registry.tasks.names() if method.needs <= set(registry.tasks.get(name).provides)]
    _, run = contracts._small(method, tasks)
    return lambda cls: run(method=cls, seed=0).model


TARGETS = {"loss": "true", "logit": "incompetent", "rep": "incompetent"}


def movable(method, run):
    """Name → which weights move when all that a method measures is trained on, on all of D (a head plays no part in
    representations, nor a word that no text has in anything).
    """
    measures = {term.measure for term in method.terms} or {"loss"}
    terms = tuple(Term(on, what, TARGETS[what]) for on in ("forget", "retain") for what in sorted(measures))
    facts = {"terms": terms, "schedule": "union", "name": "everything", "__doc__": "All that can move."}
    found = changed(type("Everything", (Method,), facts), run)
    return {name: found["after"][name] != weight for name, weight in found["before"].items()}


def shown(name, cls=None):
    """The `Parameters` that a method shows; None of one that changes nothing at all.

    cls: a class with the needs of that method, instead of its own.
    """
    cls, run = cls or registry.methods.get(name), runner(load_method(name))
    found = changed(cls, run)
    if found["added"]:
        return Parameters.EXTERNAL
    if any(0 < share < 1 for share in found["chosen"]):
        return Parameters.SPARSE
    norm = lambda weights: sum(weight.abs().sum() for weight in weights.values())
    if found["penalised"]:
        pulled = changed(cls, run, 1e3, lr=0.02, lr_factor=1.0)
        if norm(pulled["after"]) < 0.9 * norm(pulled["before"]):
            return Parameters.SPARSE
    can = movable(cls(), run)
    moved = sum(((found["after"][at] != weight) & can[at]).sum() for at, weight in found["before"].items())
    share = moved / sum(mask.sum() for mask in can.values())
    return None if not moved else Parameters.SPARSE if share < 0.9 else Parameters.DENSE


@pytest.mark.parametrize("name", registry.methods.modules)
def test_parameters_are_what_the_method_changes(name):
    found = shown(name)
    assert found is load_method(name).moves or found is None and name == "original"


class Masked(registry.methods.get("finetune")):
    """Moves a part of the weights only."""

    def finish(self, context):
        context.student.layers[0].load_state_dict(context.original.layers[0].state_dict())

    def prepare(self, context):
        _ = context.original


class Shrinking(registry.methods.get("finetune")):
    """Makes weights small."""

    def penalty(self, context):
        return 1e-3 * sum(p.square().sum() for p in context.student.parameters())


class Held(Shrinking):
    """Is pulled to where it was, which makes nothing sparse."""

    def penalty(self, context):
        pairs = zip(context.student.parameters(), context.original.parameters(), strict=True)
        return 1e-3 * sum((p - o).square().sum() for p, o in pairs)

    def prepare(self, context):
        _ = context.original


class Half(registry.methods.get("neggrad")):
    """Visits a part of D_f only."""

    def select(self, context):
        return torch.arange(len(context.forget) // 2)


class Added(registry.methods.get("finetune")):
    """Trains a module of its own, which is gone in the end."""

    def prepare(self, context):
        context.student.more = torch.nn.Linear(2, 2)

    def finish(self, context):
        del context.student.more


@pytest.mark.parametrize(
    "cls, expected",
    [
        (Masked, Parameters.SPARSE),
        (Shrinking, Parameters.SPARSE),
        (Half, Parameters.SPARSE),
        (Held, Parameters.DENSE),
        (Added, Parameters.EXTERNAL),
    ],
)
def test_wrong_parameters_are_noticed(cls, expected):
    """Each toy inherits the declaration of a dense method: only that of `Held` is true."""
    assert shown("finetune", cls) is expected


@pytest.mark.parametrize("wrong", ["dense internal", "sparse", 1, DATA])
def test_mistyped_parameters_are_refused(wrong):
    with pytest.raises(MubenchError, match=r"^parameters=.*: give one of Parameters.DENSE"):
        type("Toy", (Method,), {"parameters": wrong})()


@pytest.mark.parametrize(
    "given",
    [
        {"parameters": Parameters.DENSE},
        {"parameters": Parameters.SPARSE, "masks": True},
        {"parameters": Parameters.SPARSE, "trainable": lambda self, student, head: [student]},
    ],
)
def test_parameters_that_are_computed_are_not_declared(given):
    with pytest.raises(MubenchError, match="^parameters=.* is to be left out"):
        type("Toy", (Method,), given)()
