"""The engine: what each step sees and at which rate, when a run stops, what stays as it was, and what it costs."""

import contextlib
import gc
import random
from dataclasses import replace
from itertools import chain

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import mubench
from mubench.errors import MubenchError
from mubench.examples import Examples
from mubench.methods.base import SCHEDULES, Method, Term, first
from mubench.models.behaviour import Behaviour
from mubench.registry import load_method
from mubench.spec import Budget
from mubench.train.context import Context
from mubench.train.costs import Meter
from mubench.train.distributed import LAUNCHERS, Alone, make_accelerator, pieces
from mubench.train.engine import Engine
from mubench.train.loop import LOOK, Loop, NonFiniteLoss
from mubench.train.optimizer import make_optimizer
from mubench.train.recipe import Recipe
from mubench.train.teachers import Teacher

CLASSES = 3
RECIPE = Recipe(lr=0.05, epochs=2, batch_size=4, forget_batch_size=3, optimizer="sgd", weight_decay=0.01, clip=0.0)


@pytest.fixture(scope="module", autouse=True)
def quick_collections():
    """Every run ends in a garbage collection (accelerate's), which would walk over all imported modules."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


class Mlp(torch.nn.Module):
    def __init__(self, seed=None, dropout=0.0):
        super().__init__()
        with torch.random.fork_rng() if seed is not None else contextlib.nullcontext():
            if seed is not None:
                torch.manual_seed(seed)
            self.hidden, self.classifier = torch.nn.Linear(4, 5), torch.nn.Linear(5, CLASSES)
        self.dropout = torch.nn.Dropout(dropout)
        self.double()

    def forward(self, x):
        return self.classifier(self.dropout(self.hidden(x).tanh()))


class Classes(Behaviour):
    num_labels = CLASSES


class Both(Method):
    """Any schedule over both sets."""

    name = "both"
    terms = Term("forget", "loss", "true", weight=-0.1), Term("retain", "loss", "true")


class Watched(Engine):
    """Keeps of every step its epoch, batches and rate."""

    def __init__(self, *args):
        super().__init__(*args)
        self.steps = []

    class Loop(Engine.Loop):
        def __init__(self, engine, *parts):
            super().__init__(engine, *parts)
            self.steps = engine.steps

        def step(self, step, *parts):
            loss = super().step(step, *parts)
            self.steps.append((self.context.epoch, [(on, p.tolist()) for on, p in step], self.rate))
            return loss


def prepared(method, forget=6, retain=10, seed=0, student=None, behaviour=None, budget=None, shuffle=True, **recipe):
    """A watched engine, ready to run."""
    n = forget + retain
    columns = {
        "x": (torch.arange(4.0 * n, dtype=torch.float64) * 1.3).sin().view(n, 4),
        "labels": torch.arange(n) % CLASSES,
    }
    sets = Examples(columns, range(forget)), Examples(columns, range(forget, n))
    method = load_method(method) if isinstance(method, str) else method
    context = Context(
        behaviour or Classes(), student or Mlp(seed=1), lambda: Mlp(seed=2), *sets, seed, start=method.start
    )
    return Watched(method, context, replace(RECIPE, **recipe), budget, shuffle)


def weights(engine):
    return {k: v.detach().clone() for k, v in engine.context.student.state_dict().items()}


def trained(method, **options):
    engine = prepared(method, **options)
    engine.run()
    return weights(engine)


def equal(a, b):
    return all(a[k].equal(b[k]) for k in a)


# --- masks and frozen weights
# -------------------------------------------------------------------------------------------


def masked(method, hold, **recipe):
    """How far the masked-out and the other weights move under a mask that is false at every third weight."""
    engine = prepared(method, epochs=3, **recipe)
    before = weights(engine)
    mask = {k: (torch.arange(v.numel()) % 3 > 0).view(v.shape) for k, v in before.items()}
    engine.method.prepare = lambda context: context.mask(mask, hold=hold)
    engine.run()
    after = engine.context.student.state_dict()
    return [torch.cat([(after[k] - before[k])[mask[k] == side] for k in mask]).abs() for side in (False, True)]


@pytest.mark.parametrize("method", ["rand_label", "scrub", "neggrad_plus", "finetune"])
@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
def test_masked_weights_stay_bit_equal_under_decay_and_momentum(method, optimizer):
    held, free = masked(method, True, optimizer=optimizer, weight_decay=0.1, momentum=0.9, clip=1.0)
    assert not held.any() and free.all()


def test_without_hold_decay_moves_masked_weights():
    held, _ = masked("rand_label", False, optimizer="adamw", weight_decay=0.1)
    assert held.all()
    held, _ = masked("rand_label", False, optimizer="adamw", weight_decay=0.0)
    assert not held.any()


def test_weights_without_gradient_stay():
    student = Mlp(seed=1)
    student.hidden.requires_grad_(False)
    engine = prepared("rand_label", student=student, optimizer="adamw", weight_decay=0.1)
    before = weights(engine)
    engine.run()
    after = weights(engine)
    assert all(before[k].equal(after[k]) == k.startswith("hidden") for k in before)
    assert not student.hidden.weight.requires_grad


# --- arithmetic of a step
# -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["rand_label", "neggrad_plus", "scrub", "bad_t", "salun"])
def test_accumulation_changes_memory_and_no_figure(method):
    method = load_method(method, **{"l2_init": 0.5} if method == "neggrad_plus" else {})
    whole, pieces = (trained(method, accumulate=n, clip=0.3) for n in (1, 3))
    for name in whole:
        torch.testing.assert_close(whole[name], pieces[name], rtol=1e-12, atol=1e-14)


def test_a_step_is_the_batch_mean_of_each_set():
    """One joint step of plain SGD against autograd by hand, the sets' batches differing in size."""
    engine = prepared(
        Both(schedule="joint"), forget=2, retain=3, shuffle=False, epochs=1, momentum=0.0, weight_decay=0.0
    )
    model, mean = Mlp(seed=1), torch.nn.functional.cross_entropy
    batches = [view[torch.arange(len(view))] for view in (engine.context.forget, engine.context.retain)]
    forget, retain = (mean(model(b["x"]), b["labels"]) for b in batches)
    (retain - 0.1 * forget).backward()
    costs = engine.run()
    assert costs.losses == pytest.approx([(retain - 0.1 * forget).item()], rel=1e-12)
    for mine, by_hand in zip(engine.context.student.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(mine.detach(), by_hand.detach() - 0.05 * by_hand.grad, rtol=1e-12, atol=1e-14)


# --- schedules
# ----------------------------------------------------------------------------------------------------------


def visited(schedule, terms=Both.terms, **options):
    """For each epoch the steps, each as {set: positions}."""
    method = type("Any", (Both,), {"terms": terms})(schedule=schedule)
    engine = prepared(method, epochs=3, **options)
    engine.run()
    return [[dict(step) for e, step, _ in getattr(engine, "steps", []) if e == epoch] for epoch in (1, 2, 3)]


def positions(steps, on):
    return list(chain(*(s[on] for s in steps if on in s)))


@pytest.mark.parametrize(
    "schedule, on, n, size",
    [("forget_only", "forget", 6, 3), ("retain_only", "retain", 10, 4), ("union", "union", 16, 4)],
)
def test_one_set_is_seen_once_an_epoch_in_a_new_order(schedule, on, n, size):
    epochs = visited(schedule)
    for steps in epochs:
        assert all(list(step) == [on] for step in steps) and sorted(positions(steps, on)) == list(range(n))
        assert [len(step[on]) for step in steps] == [size] * (n // size) + [n % size] * (n % size > 0)
    assert len({tuple(positions(steps, on)) for steps in epochs}) == 3


def test_union_holds_forget_rows_before_retain_rows():
    engine = prepared(Both(schedule="union"))
    engine.run()
    index = engine.schedule.views["union"][torch.arange(16)]["index"]
    assert index.tolist() == engine.context.forget.rows.tolist() + engine.context.retain.rows.tolist()


@pytest.mark.parametrize("forget, retain, longer, shorter", [(6, 20, "retain", "forget"), (20, 6, "forget", "retain")])
def test_joint_passes_over_the_longer_set_and_cycles_the_shorter(forget, retain, longer, shorter):
    for steps in visited("joint", forget=forget, retain=retain):
        assert all(list(step) == ["forget", "retain"] for step in steps)
        n, size = {"forget": (forget, 3), "retain": (retain, 4)}[longer]
        assert sorted(positions(steps, longer)) == list(range(n)) and len(steps) == -(-n // size)
        rounds = [step[shorter] for step in steps]
        assert len(steps) > 2 and rounds == (rounds[:2] * len(rounds))[: len(rounds)]
        assert sorted(chain(*rounds[:2])) == list(range(6))


def test_alternate_is_all_of_the_forget_set_then_all_of_the_retain_set():
    for steps in visited("alternate"):
        assert [list(step) for step in steps] == [["forget"]] * 2 + [["retain"]] * 3
        assert sorted(positions(steps, "forget")) == list(range(6)) and sorted(positions(steps, "retain")) == list(
            range(10)
        )


def test_alternate_skips_a_set_no_term_of_the_epoch_is_on():
    terms = Term("forget", "loss", "true", weight=-0.1, when=first(2)), Term("retain", "loss", "true")
    epochs = visited("alternate", terms)
    assert [bool(positions(steps, "forget")) for steps in epochs] == [True, True, False]
    assert all(sorted(positions(steps, "retain")) == list(range(10)) for steps in epochs)


def test_no_schedule_is_no_step():
    assert visited("none") == [[], [], []] and SCHEDULES[0] == "none"


def test_without_shuffling_rows_come_in_order():
    assert visited("union", shuffle=False)[0] == [{"union": list(range(i, i + 4))} for i in range(0, 16, 4)]


def test_union_of_sets_that_share_no_columns():
    parts = [Examples({"x": torch.full((n, 4), float(n)), "labels": torch.arange(n)}, range(1, n)) for n in (3, 5)]
    both = parts[0] + parts[1]
    batch = both[torch.tensor([0, 1, 2, 5])]
    assert len(both) == 6 and batch["x"][:, 0].tolist() == [3, 3, 5, 5] and batch["labels"].tolist() == [1, 2, 1, 4]


# --- learning rates
# -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options, factors",
    [
        ({}, [1, 1, 1, 1]),
        ({"lr_schedule": "linear"}, [1, 0.75, 0.5, 0.25]),
        ({"lr_schedule": "cosine"}, [1, 0.5 + 0.5**1.5, 0.5, 0.5 - 0.5**1.5]),
        ({"warmup": 0.5}, [0, 0.5, 1, 1]),
        ({"warmup": 0.5, "lr_schedule": "linear"}, [0, 0.5, 1, 0.5]),
        ({"warmup": 0.5, "lr_schedule": "cosine"}, [0, 0.5, 1, 0.5]),
        ({"warmup": 1.0}, [0, 0.25, 0.5, 0.75]),
        ({"milestones": (1, 3)}, [1, 0.1, 0.1, 0.01]),  # strictly below: a milestone m acts from epoch m + 1
        ({"milestones": (2,), "lr_decay": 0.5, "lr_schedule": "linear"}, [1, 0.75, 0.25, 0.125]),
    ],
)
def test_rates(options, factors):
    engine = prepared("finetune", retain=4, epochs=4, **options)
    engine.run()
    assert [lr for *_, lr in engine.steps] == pytest.approx([0.05 * f for f in factors], rel=1e-12)


# --- stopping
# -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "budget, steps, examples, by",
    [
        (Budget(), 6, 20, "epochs"),
        (Budget(steps=6, examples=20, seconds=1e9), 6, 20, "epochs"),
        (Budget(steps=4), 4, 14, "steps"),
        (Budget(steps=1), 1, 4, "steps"),
        (Budget(seconds=0.0), 0, 0, "seconds"),
        (Budget(examples=13), 3, 10, "examples"),
        (Budget(examples=14), 4, 14, "examples"),
        (Budget(examples=3), 0, 0, "examples"),
        (Budget(steps=2, examples=4), 1, 4, "examples"),
    ],
)
def test_a_budget_stops_the_run_and_is_named(budget, steps, examples, by):
    costs = prepared("finetune", budget=budget).run()
    assert (costs.steps, costs.examples, costs.stopped_by) == (steps, examples, by)


def test_an_example_counts_each_time_it_has_a_gradient():
    assert prepared(Both(schedule="joint")).run().examples == 2 * (10 + 3 * 3)


def test_seconds_run_out_in_the_middle(monkeypatch):
    clock = iter(range(1000))
    monkeypatch.setattr(Meter, "seconds", lambda self: next(clock))
    costs = prepared("finetune", budget=Budget(seconds=3.5)).run()
    assert (costs.steps, costs.stopped_by) == (4, "seconds")


class Spoilt(Classes):
    """Its loss is not a number from the third batch on."""

    def __init__(self, value):
        self.calls, self.value = 0, value

    def forward(self, model, batch, features=False):
        out, self.calls = super().forward(model, batch, features), self.calls + 1
        out.loss = out.loss * (self.value if self.calls >= 3 else 1)
        return out


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_with_what_it_cost(value):
    with pytest.raises(NonFiniteLoss) as stop:
        prepared("finetune", behaviour=Spoilt(value)).run()
    message, costs = str(stop.value), stop.value.costs
    assert all(word in message for word in ("finetune", "step 3", "lr 0.05", str(value), "lr=0.005"))
    assert costs.steps == 3 and costs.examples == 10 and costs.unlearning_seconds > 0 and costs.flops > 0
    assert not np.isfinite(costs.losses[-1])


def test_losses_are_looked_at_together_and_the_step_that_spoilt_them_is_named(monkeypatch):
    looks, look = [], Loop._look
    monkeypatch.setattr(Loop, "_look", lambda loop: looks.append(loop.context.step) or look(loop))
    with pytest.raises(NonFiniteLoss, match="step 3 with"):
        prepared("finetune", behaviour=Spoilt(float("nan")), retain=200, batch_size=2).run()
    assert looks == [LOOK]
    engine = prepared("finetune", retain=80, batch_size=2)
    costs = engine.run()
    assert looks[1:] == [16, 32, 40, 56, 72, 80] and len(costs.losses) == 2


def test_one_process_in_float32_needs_no_accelerator(monkeypatch):
    for name in LAUNCHERS:
        monkeypatch.delenv(name, raising=False)
    assert isinstance(make_accelerator(), Alone) and not isinstance(make_accelerator("bf16"), Alone)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize("kind", [torch.float64, torch.float32])
def test_fused_optimisers_take_the_same_steps(optimizer, kind):
    recipe = replace(RECIPE, optimizer=optimizer, momentum=0.9)
    plain = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}[optimizer]
    options = {"momentum": 0.9} if optimizer == "sgd" else {}
    one, other = (torch.nn.Parameter(torch.linspace(-1, 1, 50, dtype=kind)) for _ in "ab")
    ours = make_optimizer(recipe, [one])
    theirs = plain([other], lr=0.05, weight_decay=0.01, foreach=False, **options)
    assert ours.defaults["fused"]
    for _ in range(20):
        for weight, stepped in ((one, ours), (other, theirs)):
            weight.grad = (3 * weight.detach()).sin()
            stepped.step()
    torch.testing.assert_close(one, other, rtol=1e-12 if kind == torch.float64 else 1e-5, atol=1e-7)


@pytest.mark.parametrize("method", ["neggrad", "salun", "scrub"])
def test_an_empty_forget_set_is_refused(method):
    with pytest.raises(MubenchError, match=f"forget set is empty.*{method}"):
        prepared(method, forget=0)


def test_an_empty_forget_set_is_no_matter_where_it_is_not_asked_for():
    assert prepared("finetune", forget=0).run().steps == 6


# --- determinism
# --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["salun", "bad_t", "scrub", "neggrad_plus", "retrain"])
def test_the_seed_decides_every_bit(method):
    run = lambda seed: trained(method, seed=seed, student=Mlp(seed=1, dropout=0.2), optimizer="adamw")
    a, b, other = run(0), run(0), run(1)
    assert equal(a, b) and not equal(a, other)


def items(n, start=0):
    return [
        {"x": torch.full((4,), 0.1 * i, dtype=torch.float64), "labels": i % CLASSES} for i in range(start, start + n)
    ]


@pytest.mark.parametrize("method", ["retrain", "bad_t", "salun"])
def test_the_users_random_numbers_are_neither_used_nor_spent(method):
    """Not even by an untrained model that the user's ``fresh`` initialises without a seed."""

    def run(user_seed):
        torch.manual_seed(user_seed), np.random.seed(user_seed), random.seed(user_seed)
        before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
        model = mubench.unlearn(
            Mlp(seed=1, dropout=0.2), items(6), items(10, 6), method, fresh=Mlp, epochs=1, seed=5
        ).model
        assert before[0].equal(torch.get_rng_state())
        assert before[1:] == (np.random.get_state()[1].tolist(), random.getstate())
        return model.state_dict()

    assert equal(run(1), run(2))


# --- teachers
# -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["bad_t", "scrub"])
def test_a_teacher_answers_once_for_each_example_of_a_run(method):
    engine, asked = prepared(method, epochs=4), {"original": 0, "incompetent": 0}
    for name in asked:

        def count(module, args, kwargs, name=name):
            asked[name] += len(kwargs["x"])

        getattr(engine.context, name).register_forward_pre_hook(count, with_kwargs=True)
    engine.run()
    retain = len(engine.context.retain)
    bad_t, scrub = {"original": retain, "incompetent": 6}, {"original": 6 + retain, "incompetent": 0}
    assert asked == (bad_t if method == "bad_t" else scrub)


@pytest.mark.parametrize("method", ["scrub", "neggrad_plus", "retrain"])
def test_the_original_stays_what_it_was(method):
    engine = prepared(load_method(method, **{"l2_init": 0.1} if method == "neggrad_plus" else {}))
    given = {k: v.clone() for k, v in engine.context.given.state_dict().items()}
    original = engine.context.original
    engine.run()
    assert engine.context.original is original and equal(given, original.state_dict())
    assert not equal(given, weights(engine))


def test_asking_for_the_original_after_training_is_refused():
    engine = prepared("finetune")
    engine.run()
    with pytest.raises(MubenchError, match="prepare"):
        engine.context.teacher("original")


# --- costs and appearance
# -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["salun", "scrub", "bad_t", "neggrad_plus", "rand_label", "retrain"])
def test_flops_of_a_shape_are_traced_once_and_counted_every_time(method, monkeypatch):
    engine, traced = prepared(method, epochs=6, accumulate=2), []
    monkeypatch.setattr(
        "mubench.train.costs.FlopCounterMode", lambda **options: traced.append(1) or FlopCounterMode(**options)
    )
    with FlopCounterMode(display=False) as everything:
        costs = engine.run()
    assert costs.flops == everything.get_total_flops() > 0
    assert len(traced) == len(engine.context.meter._flops) < costs.steps


def test_flops_are_traced_once_for_all_runs_that_do_the_same(monkeypatch):
    traced, behaviour = [], Classes()
    monkeypatch.setattr(
        "mubench.train.costs.FlopCounterMode", lambda **options: traced.append(1) or FlopCounterMode(**options)
    )
    first, times = prepared("salun", behaviour=behaviour).run().flops, len(traced)
    assert prepared("salun", behaviour=behaviour, seed=1).run().flops == first and len(traced) == times > 0
    alone = prepared("salun", batch_size=5).run().flops  # another task: nobody has traced it
    times = len(traced)
    assert prepared("salun", behaviour=behaviour, batch_size=5).run().flops == alone and len(traced) > times
    frozen = Mlp(seed=1)
    frozen.hidden.requires_grad_(False)
    assert prepared("salun", behaviour=behaviour, student=frozen).run().flops < first


def test_pieces_are_of_similar_length():
    lengths = torch.tensor([9, 1, 8, 2, 7, 3])
    columns = {"x": torch.zeros(6, 1), "labels": torch.zeros(6)}
    for known, expected in ((lengths, [[1, 3, 5], [4, 2, 0]]), (None, [[0, 1, 2], [3, 4, 5]])):
        views = {"retain": Examples(columns, lengths=known)}
        cut = pieces([("retain", torch.arange(6))], 8, 2, Alone(), views)
        assert [piece.positions.tolist() for piece in cut] == expected and [piece.batch for piece in cut] == [6, 6]


def test_runs_of_a_set_share_what_the_original_answers(monkeypatch):
    asked, of_all = [], Teacher._of_all
    monkeypatch.setattr(Teacher, "_of_all", lambda teacher, *which: asked.append(1) or of_all(teacher, *which))
    alone = {method: (trained(method), prepared(method).run()) for method in ("scrub", "bad_t", "npo")}
    times, first = len(asked), prepared("scrub")
    for method, (state, costs) in alone.items():
        engine = prepared(method, behaviour=first.context.task)
        engine.context.note(forget=first.context.forget, retain=first.context.retain)
        shared = engine.run()
        assert equal(weights(engine), state)
        assert (shared.flops, shared.examples) == (costs.flops, costs.examples) and shared.unlearning_seconds > 0
    assert len(asked) - times < times / 2
    other = prepared("scrub", student=Mlp(seed=3), behaviour=first.context.task)
    other.context.note(forget=first.context.forget, retain=first.context.retain)
    times = len(asked)
    other.run()
    assert len(asked) > times  # another original


def test_flops_are_those_of_the_matrix_products():
    """Forward 2·B·(4·5 + 5·3), and backward the same for weights and, for the second layer, its input."""
    forward = 2 * 10 * (4 * 5 + 5 * 3)
    assert prepared("finetune", epochs=1).run().flops == 2 * forward + 2 * 10 * 5 * 3


def test_costs_are_filled():
    costs = prepared("salun").run()
    assert costs.unlearning_seconds > 0 and costs.peak_memory_bytes > 2**20 and len(costs.losses) == 2
    assert costs.steps == 2 * (2 + 3) and costs.examples == 6 + 2 * 16  # the saliency of D_f, and the steps


def test_the_progress_bar_is_silent_where_nobody_watches(capfd):
    prepared("finetune").run()
    assert capfd.readouterr() == ("", "")
