"""Formulas, schedules and stopping rules, against independent arithmetic on a tiny problem of texts and one of
classes.
"""

import functools
import math
import types

import pytest
import torch

from mubench.errors import MubenchError
from mubench.examples import Examples
from mubench.methods._memory import accuracy, extraction
from mubench.methods.base import Method, Term, after, first
from mubench.models.behaviour import Behaviour, Output
from mubench.registry import load_method, load_task
from mubench.train.context import Context
from mubench.train.engine import Engine
from mubench.train.recipe import Recipe

V, PROMPT, LENGTHS = 7, 2, (3, 5, 4, 1, 5, 2)  # tokens, those of a prompt, those of the answers
RECIPE = Recipe(lr=0.1, epochs=1, batch_size=8, optimizer="sgd", momentum=0.0, weight_decay=0.0, clip=0.0)


class Pairs(torch.nn.Module):
    """The logits of a token depend on the one before it."""

    def __init__(self, seed=0):
        super().__init__()
        table = torch.randn(V, V, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        self.table = torch.nn.Parameter(2 * table)


class Texts(Behaviour):
    """Answers, -100 after their end, to prompts of two tokens; the refusal of example i is ``i % 3, 6``."""

    provides = Behaviour.provides | {"text"}
    keeps_outputs = False

    def forward(self, model, batch, features=False):
        labels, mask = batch["labels"], batch["labels"] != -100
        seen = torch.cat([batch["input_ids"][:, -1:], labels[:, :-1].clamp(min=0)], 1)
        logits = model.table[seen]
        losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), labels, reduction="none")
        return Output((losses * mask).sum(1) / mask.sum(1), logits, mask)

    def divergence(self, student, teacher, temperature=1.0, per="example"):
        return (super().divergence(student, teacher, temperature, per) * student.mask).sum(1) / student.mask.sum(1)

    def refuse(self, batch, rows):
        labels = batch["labels"].clone()
        labels[rows] = -100
        labels[rows, 0], labels[rows, 1] = batch["index"][rows] % 3, 6
        return batch | {"labels": labels}

    def complete(self, model, batch, given, most):
        said = torch.cat([batch["input_ids"], batch["labels"][:, :given]], 1)
        for _ in range(most):
            said = torch.cat([said, model.table[said[:, -1:].clamp(min=0)].argmax(-1)], 1)
        return said[:, PROMPT + given :]


def columns():
    ids = torch.randint(V, (len(LENGTHS), PROMPT + max(LENGTHS)), generator=torch.Generator().manual_seed(1))
    labels = ids[:, PROMPT:].clone()
    for row, length in enumerate(LENGTHS):
        labels[row, length:] = -100
    return {"input_ids": ids[:, :PROMPT], "labels": labels}


def context(student=None, original=None, forget=(0, 1, 2, 3), retain=(4, 5), task=None, collate=None):
    view = lambda rows: Examples(columns(), list(rows), collate)
    made = Context(task or Texts(), student or Pairs(), Pairs, view(forget), view(retain), validation=view(retain))
    made.__dict__["original"] = (original or Pairs(2)).requires_grad_(False)
    return made


class Recorder(Engine):
    """Keeps what the first step loses, and how many examples of which set each step sees."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.steps = []

    class Loop(Engine.Loop):
        def __init__(self, engine, *parts):
            super().__init__(engine, *parts)
            self.steps = engine.steps

        def step(self, step, *parts):
            loss = super().step(step, *parts)
            self.steps.append((self.context.epoch, {on: len(rows) for on, rows in step}, loss.item()))
            return loss


def run(name, given=None, recipe=RECIPE, **hyperparameters):
    method, given = load_method(name, **{"lr_factor": 1.0, "epochs": 1} | hyperparameters), given or context()
    engine = Recorder(method, given, method.recipe(recipe), progress=False)
    engine.run()
    return engine


def first_loss(name, **hyperparameters):
    return run(name, lr=0.0, **hyperparameters).steps[0][2]


def tokens(model, row, labels=None):
    """(log-probabilities of all tokens, the label) at each position of an example's answer, in plain loops."""
    given = columns()
    answer = [int(t) for t in (given["labels"][row] if labels is None else labels) if t != -100]
    before = [int(given["input_ids"][row, -1]), *answer[:-1]]
    for last, label in zip(before, answer, strict=True):
        scores = model.table[last].tolist()
        total = math.log(sum(math.exp(s) for s in scores))
        yield [s - total for s in scores], label


def nll(model, row, labels=None):
    return [-scores[label] for scores, label in tokens(model, row, labels)]


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def softplus(x):
    return math.log1p(math.exp(x))


def refusal(row):
    return [row % 3, 6]


STUDENT, ORIGINAL = Pairs(), Pairs(2)
CLOSE = dict(rel=1e-12)


# --- formulas
# -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [0.1, 1.0])
def test_npo_sums_over_a_text(beta):
    expected = mean(2 / beta * softplus(-beta * (sum(nll(STUDENT, i)) - sum(nll(ORIGINAL, i)))) for i in range(4))
    assert first_loss("npo", beta=beta, retain="none") == pytest.approx(expected, **CLOSE)


def test_sim_npo_averages_over_a_text():
    expected = mean(2 / 3.0 * softplus(-3.0 * (mean(nll(STUDENT, i)) - 0.5)) for i in range(4))
    assert first_loss("sim_npo", beta=3.0, gamma=0.5, weight=0.2, retain="none") == pytest.approx(
        0.2 * expected, **CLOSE
    )


def test_dpo_prefers_a_refusal():
    def gain(row, labels=None):
        return sum(nll(STUDENT, row, labels)) - sum(nll(ORIGINAL, row, labels))

    expected = mean(2 / 0.5 * softplus(-0.5 * (gain(i) - gain(i, refusal(i)))) for i in range(4))
    assert first_loss("dpo", beta=0.5, retain="none") == pytest.approx(expected, **CLOSE)
    assert first_loss("dpo", beta=0.5) == pytest.approx(expected + mean(mean(nll(STUDENT, i)) for i in (4, 5)), **CLOSE)


def test_a_refused_answer_is_one_more_pass():
    plain, refused = (run(name, lr=0.0, retain="none").context.meter.costs for name in ("npo", "dpo"))
    assert (plain.steps, plain.examples) == (1, 4) and (refused.steps, refused.examples) == (1, 8)
    assert run("dpo", lr=0.0).context.meter.costs.examples == 8 + 2


def test_idk_learns_refusals_and_the_retain_set():
    expected = mean(mean(nll(STUDENT, i, refusal(i))) for i in range(4)) + mean(mean(nll(STUDENT, i)) for i in (4, 5))
    assert first_loss("idk") == pytest.approx(expected, **CLOSE)


def kl(target, scores):
    return sum(math.exp(t) * (t - s) for t, s in zip(target, scores, strict=True) if t > -math.inf)


def normalised(scores):
    total = math.log(sum(math.exp(s) for s in scores))
    return [s - total for s in scores]


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_delete_distils_all_but_the_truth(temperature):
    def token(mine, theirs, label):
        target = [-math.inf if i == label else t / temperature for i, t in enumerate(theirs)]
        return temperature**2 * kl(normalised(target), normalised([m / temperature for m in mine]))

    expected = mean(
        mean(
            token(mine, theirs, label)
            for (mine, label), (theirs, _) in zip(tokens(STUDENT, i), tokens(ORIGINAL, i), strict=True)
        )
        for i in range(4)
    )
    assert first_loss("delete", temperature=temperature) == pytest.approx(expected, **CLOSE)


def test_undial_lowers_the_truth():
    def token(mine, theirs, label):
        return kl(normalised([t - 4.0 * (i == label) for i, t in enumerate(theirs)]), mine)

    expected = mean(
        mean(
            token(mine, theirs, label)
            for (mine, label), (theirs, _) in zip(tokens(STUDENT, i), tokens(ORIGINAL, i), strict=True)
        )
        for i in range(4)
    )
    assert first_loss("undial", strength=4.0) == pytest.approx(expected, **CLOSE)


def test_flat_is_a_divergence_between_refusals_and_answers():
    p = lambda row, labels=None: mean(math.exp(-x) for x in nll(STUDENT, row, labels))
    expected = mean(math.tanh(p(i)) / 2 - math.tanh(p(i, refusal(i))) / 2 for i in range(4))
    assert first_loss("flat") == pytest.approx(expected, **CLOSE)


@pytest.mark.parametrize(
    "divergence, forward",
    {
        "kl": True,
        "jeffrey": True,
        "pearson": True,
        "jensen_shannon": True,
        "total_variation": True,
        "reverse_kl": False,
        "squared_hellinger": False,
        "neyman": False,
    }.items(),
)
def test_three_pairs_of_flats_code_push_refusals_away(divergence, forward):
    p = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    g, _ = load_method("flat", divergence=divergence).functions()
    assert (torch.autograd.grad(-g(p), p)[0] < 0) == forward


def test_an_unknown_divergence_or_rule_or_retention_is_answered_with_the_nearest():
    for name, given, guess in (
        ("flat", {"divergence": "pearsn"}, "pearson"),
        ("scrub_r", {"rule": "nearst"}, "nearest"),
        ("npo", {"retain": "gdif"}, "gdiff"),
    ):
        with pytest.raises(MubenchError, match=guess):
            load_method(name, **given)


@pytest.mark.parametrize(
    "retain, expected",
    [
        ("gdiff", lambda i: mean(nll(STUDENT, i))),
        (
            "kl",
            lambda i: mean(
                kl(theirs, mine) for (mine, _), (theirs, _) in zip(tokens(STUDENT, i), tokens(ORIGINAL, i), strict=True)
            ),
        ),
    ],
)
def test_what_holds_the_retain_set(retain, expected):
    extra = first_loss("npo", retain=retain) - first_loss("npo", retain="none")
    assert extra == pytest.approx(mean(expected(i) for i in (4, 5)), rel=1e-9)


def test_padding_changes_nothing():
    """The same answers, padded to the longest of all and to 2 tokens or their own length."""

    def trim(batch):
        width = max(2, int((batch["labels"] != -100).sum(1).max()))
        return batch | {"labels": batch["labels"][:, :width]}

    def loss_of(name, rows, collate=None):
        alone = {"retain": "none"} if hasattr(load_method(name), "retain") else {}
        return run(name, context(forget=rows, collate=collate), lr=0.0, **alone).steps[0][2]

    for name in ("npo", "sim_npo", "dpo", "delete", "undial", "flat"):
        loss = functools.partial(loss_of, name)
        assert loss(range(4)) == pytest.approx(mean(loss([i], trim) for i in range(4)), **CLOSE)


# --- memory
# -------------------------------------------------------------------------------------------------------------


def test_accuracy_counts_the_tokens_of_an_answer():
    found = accuracy(Texts(), STUDENT, context().forget[torch.arange(4)])
    for row in range(4):
        right = [max(range(V), key=lambda v: scores[v]) == label for scores, label in tokens(STUDENT, row)]
        assert found[row] == pytest.approx(mean(right), **CLOSE)


def test_accuracy_of_a_class_is_zero_or_one():
    class Classes(Behaviour):
        def forward(self, model, batch, features=False):
            return Output(None, torch.eye(3)[[0, 1, 2]])

    assert accuracy(Classes(), None, {"labels": torch.tensor([0, 2, 2])}).tolist() == [1, 0, 1]


def test_extraction_of_what_is_known_by_heart_and_of_what_is_not():
    sure = Pairs()
    sure.table.data = 9 * torch.eye(V, dtype=torch.float64).roll(1, 1)  # 0 1 2 3 4 5 6 0 …
    batch = {
        "input_ids": torch.tensor([[0, 1]] * 3),
        "labels": torch.tensor([[2, 3, 4, 5, 6], [2, 2, 2, 2, -100], [2, 3, 4, 3, 4]]),
        "index": torch.arange(3),
    }
    found = extraction(Texts(), sure, batch, 2)
    # by heart: 1 for each of the 3 prefixes that leave two tokens; never: 3 4 5 has no 2 2; of 2|3 4 3 4 the rest 3 4 5
    # 6 has one of the
    # three pairs 34 43 34, of 23|4 3 4 and 234|3 4 the rests 4 5 6 and 5 6 have none
    assert found.tolist() == pytest.approx([3 / 3, 0.0, 1 / 3 / 3])


def test_extraction_of_answers_shorter_than_n_is_nothing():
    assert extraction(Texts(), STUDENT, context().forget[torch.arange(4)], 5).tolist() == [0] * 4


@pytest.mark.parametrize("model", ["llama", "gpt2"])
@torch.no_grad()
def test_completions_begin_where_the_given_tokens_end(model):
    """What `complete` says after 3 given tokens is what the most likely token is, time after time, without any cache or
    padding.
    """
    task = load_task("people")
    network, view = task.build(model).eval(), task.prepared(model, "test")
    batch = view[torch.arange(4)]
    said = task.complete(network, batch, 3, 5)
    for row in range(4):
        ids = torch.cat([batch["input_ids"][row][batch["attention_mask"][row] > 0], batch["labels"][row, :3]])
        for token in said[row].tolist():
            best = int(network(input_ids=ids[None]).logits[0, -1].argmax())
            assert token == best
            if token == task.tokens(model).eos_token_id:
                break
            ids = torch.cat([ids, ids.new_tensor([token])])


# --- refusals
# -----------------------------------------------------------------------------------------------------------


def test_refusals_are_texts_of_their_own_for_the_given_rows_alone():
    from mubench.tasks.generation.base import REFUSALS

    task = load_task("people")
    view = task.prepared("llama", "train")
    batch = view[torch.arange(20)]
    before = {k: v.clone() for k, v in batch.items()}
    rows = torch.tensor([1, 3, 17])
    refused, tokenizer = task.refuse(batch, rows), task.tokens("llama")
    assert all(batch[k].equal(v) for k, v in before.items())
    for row in range(20):
        ids = [t for t in refused["labels"][row].tolist() if t != -100]
        said = tokenizer.decode(ids, skip_special_tokens=True)
        assert (said in REFUSALS) == (row in rows) and ids[-1] == tokenizer.eos_token_id
        if row in rows:
            assert said == REFUSALS[row % len(REFUSALS)]
    whole = task.refuse(batch, slice(None))["labels"]
    assert len({tuple(row) for row in whole.tolist()}) == len(REFUSALS)


# --- schedules
# ----------------------------------------------------------------------------------------------------------


def test_l1_decays_to_nothing():
    student = Pairs()
    norm = student.table.abs().sum().item()
    method = load_method("l1_sparse", alpha=0.3, epochs=5, no_l1_epochs=2)
    found = [method.penalty(types.SimpleNamespace(epoch=e, student=student)) for e in range(1, 6)]
    assert [p.item() / norm for p in found[:3]] == pytest.approx([0.3, 0.2, 0.1], **CLOSE) and found[3:] == [None, None]


def test_l1_is_in_the_loss():
    plain, sparse = (first_loss("l1_sparse", alpha=alpha) for alpha in (0.0, 0.01))
    assert sparse - plain == pytest.approx(0.01 * STUDENT.table.abs().sum().item(), rel=1e-9)


def test_joint_visits_the_sets_that_have_terms():
    assert all(set(sizes) == {"forget", "retain"} for _, sizes, _ in run("npo").steps)
    assert all(set(sizes) == {"forget"} for _, sizes, _ in run("npo", retain="none").steps)


def test_terms_count_in_their_epochs():
    assert [first(2)(e) for e in (1, 2, 3)] == [True, True, False] and [after(2)(e) for e in (1, 2, 3)] == [
        False,
        False,
        True,
    ]


@pytest.mark.parametrize("batch_size, accumulate", [(8, 1), (2, 1), (2, 2)])
def test_ul_takes_one_step_on_all_of_the_forget_set(batch_size, accumulate):
    """Larger than a batch it goes through the model in pieces, which changes nothing."""
    recipe = Recipe(
        lr=0.1,
        epochs=1,
        batch_size=batch_size,
        accumulate=accumulate,
        optimizer="sgd",
        momentum=0.0,
        weight_decay=0.0,
        clip=0.0,
    )
    engine = run("ul", context(forget=range(5)), recipe, el_n=2, epochs=3, ma_threshold=0.0, el_threshold=0.0)
    reference = Pairs()
    for _ in range(3):
        reference.zero_grad()
        sum(-Texts().forward(reference, context(forget=range(5)).forget[torch.arange(5)]).loss / 5).backward()
        reference.table.data -= 0.1 * reference.table.grad
    assert [sizes for _, sizes, _ in engine.steps] == [{"forget": 5}] * 3
    torch.testing.assert_close(engine.context.student.table, reference.table, rtol=1e-12, atol=1e-12)


def test_ul_goes_through_the_model_in_no_larger_pieces_than_a_batch():
    seen = []

    class Watched(Texts):
        def forward(self, model, batch, features=False):
            seen.append((len(batch["labels"]), torch.is_grad_enabled()))
            return super().forward(model, batch, features)

    run(
        "ul",
        context(forget=range(5), task=Watched()),
        Recipe(lr=0.1, epochs=1, batch_size=2),
        ma_threshold=0.0,
        el_threshold=0.0,
    )
    assert sum(n for n, grad in seen if grad) == 5 and max(n for n, _ in seen) <= 2


@pytest.mark.parametrize(
    "thresholds, steps",
    [
        (dict(ma_threshold=1.0, el_threshold=1.0), 1),
        (dict(ma_threshold=1.0, el_threshold=1.0, min_epochs=4), 4),
        (dict(ma_threshold=-1.0, el_threshold=1.0), 6),
        (dict(ma_threshold=1.0, el_threshold=-1.0), 6),
    ],
)
def test_ul_stops_when_both_are_low_enough(thresholds, steps):
    assert len(run("ul", epochs=6, el_n=2, **thresholds).steps) == steps


def test_uls_thresholds_are_those_of_as_many_unseen_texts():
    engine = run("ul", context(forget=[0], retain=(4, 5)), el_n=2)
    unseen = context(forget=[4]).forget[torch.arange(1)]
    expected = {
        "ma_threshold": accuracy(Texts(), STUDENT, unseen).item(),
        "el_threshold": extraction(Texts(), STUDENT, unseen, 2).item(),
    }
    assert engine.method.thresholds == expected


def known():
    """A task in eval mode knows an example by heart if its loss is below 2, and else not at all."""

    class Known(Texts):
        def forward(self, model, batch, features=False):
            out = super().forward(model, batch, features)
            hot = torch.nn.functional.one_hot(batch["labels"].clamp(min=0), V) * 100.0
            return (
                out
                if model.training
                else Output(out.loss, torch.where((out.loss < 2)[:, None, None], hot, -hot), out.mask)
            )

    return Known()


def test_sga_ascends_on_what_is_still_known():
    given = context(forget=range(6), task=known())
    losses = Texts().forward(STUDENT, given.forget[torch.arange(6)]).loss
    wanted = (losses < 2).nonzero().flatten().tolist()
    method = load_method("sga_tau", threshold=0.5)
    method.prepare(given)
    given.note(batch_size=8, epoch=1)
    assert method.select(given).tolist() == wanted and 0 < len(wanted) < 6
    given.note(epoch=method.sga_epochs + 1)
    assert method.select(given) is None


def test_sga_makes_no_step_when_nothing_is_known_any_more():
    engine = run("sga_tau", context(forget=range(6), task=known()), threshold=0.5, sga_epochs=30, epochs=31, lr=0.5)
    visited = [sizes["forget"] for epoch, sizes, _ in engine.steps if epoch <= 30]
    assert 0 < len(visited) < 30 and engine.steps[-1][:2] == (31, {"forget": 6})


def test_sga_tau_subtracts_what_fine_tuning_on_the_forget_set_adds():
    states = {}

    class Watched(Engine.Loop):
        def step(self, step, *parts):
            loss = super().step(step, *parts)
            states[self.context.epoch] = self.context.student.table.detach().clone()
            return loss

    class Watching(Engine):
        Loop = Watched

    method, given = load_method("sga_tau", threshold=-1.0, sga_epochs=2, epochs=4, lr=0.1, scale=0.7), context()
    Watching(method, given, method.recipe(RECIPE), progress=False).run()
    after, before = (
        Texts().forward(model, given.forget[torch.arange(4)]).loss.mean() for model in (given.student, STUDENT)
    )
    assert after > before
    torch.testing.assert_close(
        given.student.table.detach(), states[2] - 0.7 * (states[4] - states[2]), rtol=1e-12, atol=1e-12
    )


def test_task_vector_moves_the_other_way_and_leaves_buffers():
    class Normed(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = torch.nn.BatchNorm1d(2)

    student, method = Normed(), load_method("task_vector", scale=0.5)
    given = Context(None, student, None, [], [])
    method.prepare(given)
    student.norm.weight.data += 1
    student.norm.running_var += 3
    student.norm.num_batches_tracked += 2
    method.finish(given)
    assert student.norm.weight.tolist() == [0.5, 0.5] and student.norm.running_var.tolist() == [1, 1]
    assert student.norm.num_batches_tracked == 0


def test_task_vector_moves_tied_weights_too():
    student = torch.nn.Sequential(torch.nn.Linear(1, 1, bias=False), torch.nn.Linear(1, 1, bias=False))
    student[1].weight = student[0].weight
    start, method = student[0].weight.item(), load_method("task_vector", scale=0.5)
    given = Context(None, student, None, [], [])
    method.prepare(given)
    student[0].weight.data += 1
    method.finish(given)
    assert student[0].weight is student[1].weight and student[1].weight.item() == pytest.approx(start - 0.5)


@pytest.mark.parametrize(
    "rule, errors, reference, position",
    [
        ("nearest", [0.03, 0.31, 0.22, 0.18], 0.21, 2),
        ("first_above", [0.03, 0.31, 0.22, 0.18], 0.21, 1),
        ("nearest", [0.5], 0.0, 0),
        ("first_above", [0.1, 0.1], 0.2, 1),
    ],
)
def test_scrub_r_chooses_a_checkpoint(rule, errors, reference, position):
    assert load_method("scrub_r", rule=rule).rewind(errors, reference) == position


def test_scrub_r_ends_with_the_weights_of_the_chosen_epoch():
    engine = run("scrub_r", epochs=4, msteps=4, lr=1.0)
    kept = engine.method.kept
    assert len(kept) == len(engine.method.errors) == 4 and len({k["table"][6, 6].item() for k in kept}) == 4
    reference = (
        1
        - accuracy(Texts(), types.SimpleNamespace(table=kept[-1]["table"]), engine.context.validation[torch.arange(2)])
        .mean()
        .item()
    )
    chosen = min(range(4), key=lambda i: abs(engine.method.errors[i] - reference))
    assert engine.context.student.table.equal(kept[chosen]["table"])


def test_the_reference_of_scrub_r_is_over_the_classes_of_the_forget_set():
    class Classes(Behaviour):
        def forward(self, model, batch, features=False):
            return Output(None, batch["said"])

    eye = torch.eye(4)
    view = Examples({"labels": torch.tensor([0, 0, 1, 1, 2, 3]), "said": eye[[0, 1, 1, 1, 3, 0]]})  # errors 0 1 0 0 1 1
    method, student = load_method("scrub_r"), Pairs()
    made = Context(Classes(), student, Pairs, view.select([0, 2]), view, validation=view)
    made.note(batch_size=4)
    method.prepare(made)
    seen = []
    method.after_epoch(made)
    method.rewind = lambda errors, reference: seen.append((errors, reference)) or 0
    method.finish(made)
    assert seen == [([0.0], 0.25)]


def test_a_true_after_epoch_ends_the_run():
    class Stops(Method):
        schedule, terms, epochs = "forget_only", (Term("forget", "loss", "true"),), 9

        def after_epoch(self, context):
            return context.epoch == 3

    method, given = Stops(), context()
    assert Engine(method, given, method.recipe(RECIPE), progress=False).run().steps == 3
    assert given.meter.costs.stopped_by == "epochs" and len(given.meter.costs.losses) == 3


def test_measuring_leaves_the_student_as_it_was():
    given = context()
    given.note(batch_size=3)
    given.student.train()
    found = given.measure(given.forget, accuracy)
    assert found.shape == (4,) and given.student.training and given.student.table.grad is None
    torch.testing.assert_close(found, accuracy(Texts(), given.student, given.forget[torch.arange(4)]))
