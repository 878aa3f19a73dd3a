"""Methods that edit weights or measure representations, against the same maths written out; their figures from official
codes are in ``tests/goldens``."""

import math

import pytest
import torch
import transformers
from torch.nn.functional import cross_entropy

from mubench.examples import Examples
from mubench.methods.base import Term
from mubench.models import networks
from mubench.models.behaviour import Behaviour, Output, forward
from mubench.registry import load_method
from mubench.train.context import Context
from mubench.train.engine import Engine
from mubench.train.gradients import gradients, importance
from mubench.train.recipe import Recipe

FORGET, RETAIN, CLASSES = [1, 4, 6, 7, 12], [0, 2, 3, 5, 8, 9, 10, 11, 13], 3
RECIPE = Recipe(lr=0.05, epochs=2, batch_size=4, forget_batch_size=3, optimizer="sgd", weight_decay=0.0, clip=0.0)
N = len(FORGET) + len(RETAIN)


class Net(torch.nn.Module):
    def __init__(self, data_dependent=False):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.layers = torch.nn.ModuleList(
                [torch.nn.Linear(4, 5), torch.nn.Sequential(torch.nn.Tanh(), torch.nn.Linear(5, 5))]
            )
            self.norm, self.classifier = torch.nn.BatchNorm1d(5), torch.nn.Linear(5, CLASSES)
        self.double()
        self.data_dependent = data_dependent

    def forward(self, x):
        if self.data_dependent and x.sum() > 1e9:
            raise ValueError
        for layer in self.layers:
            x = layer(x)
        return self.classifier(self.norm(x))


class Classes(Behaviour):
    num_labels = CLASSES


def context(net=Net, behaviour=None, seed=0):
    x = (torch.arange(4.0 * N, dtype=torch.float64) * 1.7).sin().view(N, 4)
    columns = {"x": x, "labels": torch.arange(N) % CLASSES}
    made = Context(behaviour or Classes(), net(), net, Examples(columns, FORGET), Examples(columns, RETAIN), seed)
    made.note(batch_size=4, forget_batch_size=4)
    return made


def run(name, made, **hyperparameters):
    method = load_method(name, **hyperparameters)
    engine = Engine(method, made, method.recipe(RECIPE), progress=False)
    engine.run()
    return engine


def state(model):
    return {k: v.detach().clone() for k, v in model.state_dict().items()}


def slope(made, view, positions):
    """The gradient of the mean loss of some examples, by plain autograd."""
    model, batch = made.student.eval(), view[torch.as_tensor(positions)]
    loss = cross_entropy(model(batch["x"]), batch["labels"])
    return dict(zip(dict(model.named_parameters()), torch.autograd.grad(loss, model.parameters()), strict=True))


# --- gradients of single examples
# -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("data_dependent", [False, True])
@pytest.mark.parametrize("size", [1, 2, 4, 20])
def test_gradients_are_those_of_groups_taken_one_by_one(size, data_dependent):
    made = context(lambda: Net(data_dependent))
    before = state(made.student)
    found = [(batch, g) for batch, g in gradients(made, made.retain, size)]
    groups = [list(range(i, min(i + size, len(RETAIN)))) for i in range(0, len(RETAIN), size)]
    for name in dict(made.student.named_parameters()):
        ours = torch.cat([g[name] for _, g in found])
        theirs = torch.stack([slope(made, made.retain, group)[name] for group in groups])
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-14)
    assert torch.cat([batch["index"] for batch, _ in found]).tolist() == RETAIN and made.student.training is False
    assert all(v.equal(before[k]) for k, v in made.student.state_dict().items())


@pytest.mark.parametrize(
    "architecture, options",
    [
        (
            "BertForSequenceClassification",
            dict(
                vocab_size=20,
                hidden_size=8,
                num_hidden_layers=2,
                num_attention_heads=2,
                intermediate_size=16,
                max_position_embeddings=12,
                num_labels=CLASSES,
            ),
        ),
        (
            "LlamaForCausalLM",
            dict(
                vocab_size=20,
                hidden_size=8,
                num_hidden_layers=1,
                num_attention_heads=2,
                intermediate_size=16,
                max_position_embeddings=12,
                pad_token_id=0,
            ),
        ),
    ],
)
def test_padded_texts_are_taken_together(architecture, options, monkeypatch):
    """vmap takes `transformers`' masks: a fall back to single examples would call autograd as often as there are
    examples.
    """
    torch.manual_seed(0)
    network = networks.make(networks.model_class(architecture), options)
    ids, lengths = torch.randint(1, 20, (8, 6)), torch.tensor([6, 3, 5, 6, 2, 4, 1, 6])
    columns = {
        "input_ids": ids,
        "attention_mask": (torch.arange(6) < lengths[:, None]).long(),
        "labels": torch.arange(8) % CLASSES,
    }

    class Last(Behaviour):
        def forward(self, model, batch, features=False):
            out = super().forward(model, batch) if "Bert" in architecture else None
            logits = (
                out.logits
                if out
                else model(batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False).logits[:, 0]
            )
            return Output(cross_entropy(logits, batch["labels"], reduction="none"), logits)

    made, calls = Context(Last(), network, None, Examples(columns), Examples(columns)), []
    import mubench.train.gradients as module

    monkeypatch.setattr(module, "vmap", lambda f, **k: lambda *a: [torch.func.vmap(f, **k)(*a), calls.append(1)][0])
    together = importance(made, made.forget)
    assert len(calls) == 1
    monkeypatch.setattr(module, "EXAMPLES", 1)
    alone = importance(made, made.forget)
    assert len(calls) == 1
    for name in alone:
        torch.testing.assert_close(together[name], alone[name], rtol=1e-3, atol=1e-8)


# --- dampening and noise
# ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha, dampening", [(1.0, 1.0), (0.5, 0.3), (1.5, 2.0)])
def test_ssd_dampens_what_matters_more_to_the_forget_set(alpha, dampening):
    made = context()
    everything = made.forget + made.retain
    squares = [
        [{n: g**2 for n, g in slope(made, view, [i]).items()} for i in range(len(view))]
        for view in (made.forget, everything)
    ]
    forget, full = ({n: sum(s[n] for s in part) / len(part) for n in part[0]} for part in squares)
    before = state(made.student)
    run("ssd", made, alpha=alpha, dampening=dampening)
    for n, weight in made.student.named_parameters():
        expected = before[n].clone()
        for i in range(weight.numel()):
            f, o = forget[n].flatten()[i], full[n].flatten()[i]
            if f > alpha * o:
                expected.view(-1)[i] *= min(1.0, dampening * o / f)
        torch.testing.assert_close(weight.detach(), expected, rtol=1e-9, atol=0)


def test_fisher_noise_has_the_variance_it_should():
    """Over many seeds, against the variance from the sum over all classes."""
    made = context()
    method = load_method("fisher", alpha=1e-4, labels="expected")
    information, before, moved = method.information(made), state(made.student), []
    for seed in range(200):
        made.note(seed=seed)
        made.student.load_state_dict(before)
        method.information = lambda _: information
        method.finish(made)
        moved.append({n: p.detach() - before[n] for n, p in made.student.named_parameters()})
    for n, f in information.items():
        variance = torch.stack([m[n] for m in moved]).square().mean(0)
        expected = 1e-4 * method.variance(f, n.startswith("classifier"))
        assert (variance / expected - 1).abs().max() < 6 * math.sqrt(2 / 200)


def test_ssd_selects_the_share_of_weights_that_the_sets_sizes_give():
    """ASSD: of the weights that matter at all, ln(1 + 100 |D_f| / |D|) % are above the threshold."""
    made = context()
    before, everything = state(made.student), importance(made, made.forget + made.retain)
    run("ssd", made)
    moved = sum((p != before[n]).sum().item() for n, p in made.student.named_parameters())
    share = sum((v > 0).sum().item() for v in everything.values()) * math.log1p(100 * len(FORGET) / N) / 100
    assert abs(moved - share) <= 1 < share < moved + 1


def test_without_alpha_fisher_noise_costs_what_is_asked():
    """Over many seeds: half the moves' squares, each times its information, is how far the loss of D_r rises to second
    order.
    """
    made = context()
    method, information = load_method("fisher", rise=1e-3), None
    information, start, sizes = method.information(made), state(made.student), []
    method.information = lambda _: information
    for seed in range(200):
        made.note(seed=seed)
        made.student.load_state_dict(start)
        method.finish(made)
        sizes.append(
            sum(((p - start[n]).square() * information[n]).sum().item() for n, p in made.student.named_parameters()) / 2
        )
    assert sum(sizes) / 200 == pytest.approx(1e-3, rel=0.2)


def test_drawn_classes_give_the_expected_information_in_expectation():
    made = context()
    expected, sums = load_method("fisher", labels="expected").information(made), {}
    for seed in range(150):
        made.note(seed=seed)
        for n, v in load_method("fisher").information(made).items():
            sums[n] = sums.get(n, 0) + v / 150
    flat = lambda values: torch.cat([v.flatten() for v in values.values()])
    assert (flat(sums) - flat(expected)).norm() < 0.1 * flat(expected).norm()
    true = load_method("fisher", labels="given").information(made)
    assert (flat(true) - flat(expected)).norm() > 0.2 * flat(expected).norm()


def test_influence_of_a_set_like_the_rest_is_nothing():
    """g_f − g_r vanishes where D_f repeats D_r, and the step is linear in alpha."""
    made = context()
    made.replace(forget=made.retain)
    before = state(made.student)
    run("influence", made, alpha=100.0)
    assert all((p - before[n]).abs().max() < 1e-12 for n, p in made.student.named_parameters())
    steps = []
    for alpha in (1.0, 3.0):
        made = context()
        run("influence", made, alpha=alpha)
        steps.append({n: p.detach() - before[n] for n, p in made.student.named_parameters()})
    assert all(torch.allclose(3 * steps[0][n], steps[1][n], rtol=1e-6, atol=1e-12) for n in before if n in steps[0])


# --- representations
# --------------------------------------------------------------------------------------------------------


def test_rmu_trains_its_layers_and_no_others():
    made = context()
    before = state(made.student)
    run("rmu", made, depth=0.0, lr=0.01)
    moved = {n for n, p in made.student.named_parameters() if not p.equal(before[n])}
    assert moved == {"layers.0.weight", "layers.0.bias"} and all(p.requires_grad for p in made.student.parameters())


def test_rmu_pulls_forgotten_states_to_a_direction_that_is_never_negative():
    made = context()
    engine = run("rmu", made, depth=1.0, trained=2, lr=0.05, epochs=300, alpha=0.0, scale=2.0)
    batch, layer, direction = made.forget[torch.arange(len(FORGET))], made.layer(1.0), engine.method.direction
    states, original = (
        forward(made.task, model, batch, layers=[layer])[layer].features[:, 0]
        for model in (made.student, made.original)
    )
    assert (direction >= 0).all()
    torch.testing.assert_close(direction.norm(), 2.0 * original.norm(dim=1).mean())
    assert (states - direction).norm(dim=1).max() < 0.05 * direction.norm() < (original - direction).norm(dim=1).min()


def test_states_of_padding_do_not_count():
    class Text(Behaviour):
        def forward(self, model, batch, features=False):
            return Output(model(batch["states"]).sum((1, 2)))

    task, model = Text(), torch.nn.Sequential(torch.nn.Identity())
    a, b = torch.randn(2, 3, 6, 4, generator=torch.Generator().manual_seed(0))
    mask = torch.arange(6) < torch.tensor([6, 2, 4])[:, None]
    given = [{"states": s, "attention_mask": mask.long()} for s in (a, b)]
    out = [forward(task, model, batch, layers=["0"])["0"] for batch in given]
    expected = torch.stack([(a[i, :n] - b[i, :n]).square().mean() for i, n in enumerate([6, 2, 4])])
    torch.testing.assert_close(task.distance(*out), expected)


@pytest.mark.parametrize(
    "name, options",
    [
        (
            "BertForSequenceClassification",
            dict(hidden_size=8, num_hidden_layers=3, num_attention_heads=2, intermediate_size=16, vocab_size=9),
        ),
        ("GPT2LMHeadModel", dict(n_embd=8, n_layer=2, n_head=2, vocab_size=9)),
        (
            "LlamaForCausalLM",
            dict(hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, vocab_size=9),
        ),
        (
            "ResNetForImageClassification",
            dict(embedding_size=4, hidden_sizes=[4, 8], depths=[1, 2], layer_type="basic"),
        ),
        (
            "Wav2Vec2ForSequenceClassification",
            dict(
                hidden_size=16,
                num_hidden_layers=2,
                num_attention_heads=2,
                intermediate_size=32,
                conv_dim=[8, 8, 8],
                conv_kernel=[4, 4, 4],
                conv_stride=[2, 2, 2],
                num_conv_pos_embedding_groups=2,
                classifier_proj_size=8,
            ),
        ),
    ],
)
def test_layers_are_found_in_any_network(name, options):
    network = networks.make(getattr(transformers, name), options)
    layers = networks.layers(network, "classifier")
    assert (
        len(layers)
        == options.get("num_hidden_layers", options.get("n_layer", 2))
        == len(networks.projections(network, layers))
    )
    assert len({type(network.get_submodule(layer)) for layer in layers}) == 1


@pytest.mark.parametrize("kind", ["linear", "conv", "gpt2", "no bias"])
def test_deletion_operators_act_on_outputs_and_are_folded_away(kind):
    module = {
        "linear": lambda: torch.nn.Linear(4, 3),
        "no bias": lambda: torch.nn.Linear(4, 3, bias=False),
        "conv": lambda: torch.nn.Conv2d(4, 3, 3),
        "gpt2": lambda: transformers.pytorch_utils.Conv1D(3, 4),
    }[kind]()
    from mubench.methods import gnn_delete

    network = torch.nn.Sequential(module, torch.nn.Identity())
    made = context(lambda: network)
    method, x = load_method("gnn_delete"), torch.randn(2, 4, *([5, 5] if kind == "conv" else []))
    made.task.head = None
    keys, before = list(network.state_dict()), network(x)
    made.train_only(method.trainable(network, None))
    trained = [p for p in network.parameters() if p.requires_grad]
    assert [p.shape for p in trained] == [(3, 3)] and torch.allclose(network(x), before)
    with torch.no_grad():
        trained[0].copy_(torch.tensor([[1.0, 2, 0], [0, 1, 0], [3, 0, -1]]))
    outputs_last = before if kind != "conv" else before.movedim(1, -1)
    expected = outputs_last @ trained[0].T if kind != "conv" else (outputs_last @ trained[0].T).movedim(-1, 1)
    method.finish(made)
    torch.testing.assert_close(network(x), expected, rtol=1e-4, atol=1e-5)
    assert sorted(network.state_dict()) == sorted(keys) and gnn_delete.GnnDelete.parameters == "dense external"


@pytest.mark.parametrize("name", ["gnn_delete", "eul"])
def test_external_parameters_leave_a_model_of_the_same_weights(name):
    made = context()
    before = state(made.student)
    run(name, made, lr=0.1)
    after = made.student.state_dict()
    changed = {k for k in before if not torch.allclose(before[k], after[k], rtol=1e-9)}
    assert (
        set(after) == set(before)
        and type(made.student) is Net
        and all(p.requires_grad for p in made.student.parameters())
    )
    assert {"layers.0.weight", "layers.1.1.weight"} <= changed and not {
        k for k in changed if k.startswith("classifier")
    }
    still = context()
    run(name, still, lr=0.0)
    assert all(
        torch.allclose(v, before[k], rtol=1e-12)
        for k, v in still.student.state_dict().items()
        if not k.startswith("norm")
    )


def test_gnn_delete_keeps_its_partners():
    made = context()
    method = load_method("gnn_delete")
    method.prepare(made)
    assert set(method.partners) == set(FORGET) and set(method.partners.values()) <= set(range(len(RETAIN)))


# --- classes
# ------------------------------------------------------------------------------------------------------------


def test_the_nearest_wrong_class_lies_across_the_closest_boundary():
    """Of a linear classifier in the plane: a step up the loss leads to the class whose boundary is next; never the true
    class.
    """

    class Plane(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.w = torch.nn.Parameter(torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))

        def forward(self, x):
            return x @ self.w.T

    x = torch.tensor([[-0.1, -2.0], [-2.0, -0.1], [3.0, 2.9], [0.5, -5.0]])
    made = Context(Classes(), Plane(), Plane, *[Examples({"x": x, "labels": torch.tensor([0, 0, 1, 1])})] * 2)
    method = load_method("boundary_shrink", step=0.2)
    method.prepare(made)
    assert method.nearest(made, made.forget[torch.arange(4)]).tolist() == [1, 2, 2, 0]


def test_the_range_of_pixels_is_that_of_the_model_that_is_run():
    asked, made = [], context()
    made.note(model_name="second")
    made.task.input_range = lambda name: asked.append(name) or (torch.tensor(-1.0), torch.tensor(1.0))
    run("boundary_shrink", made, units="pixels")
    assert asked == ["second"]
    run("boundary_shrink", context())  # nothing is asked of a behaviour that knows of no range


def test_unsir_never_shows_the_forget_set_again():
    seen = []

    class Watched(Classes):
        def forward(self, model, batch, features=False):
            if model.training:
                seen.extend(batch["x"].tolist())
            return super().forward(model, batch, features)

    made = context(behaviour=Watched())
    forgotten = made.forget[torch.arange(len(FORGET))]
    engine = run("unsir", made, retain_share=0.5, noises=4)
    assert not set(map(tuple, seen)) & set(map(tuple, forgotten["x"].tolist()))
    assert made.forget.columns["labels"].bincount(minlength=CLASSES).tolist() == [
        4 * (forgotten["labels"] == c).any().item() for c in range(CLASSES)
    ]
    noise = made.forget[torch.arange(len(made.forget))]
    with torch.no_grad():
        worse = made.task.forward(made.original, noise).loss.mean()
    assert worse > 1.2 * math.log(CLASSES) and len(made.retain) == round(0.5 * len(RETAIN)) and engine.context.step > 0


# --- prompts
# --------------------------------------------------------------------------------------------------------------


def test_the_closed_form_is_the_minimum_it_solves_for():
    """Of λ‖W' − W‖² + Σ s ‖W' c − v*‖², v* the guide's value by what is erased and the old one by what is preserved."""
    method, g = load_method("uce", lamb=0.7), torch.Generator().manual_seed(0)
    weight, concepts, guide = (
        torch.randn(*shape, dtype=torch.float64, generator=g) for shape in ((3, 5), (4, 5), (1, 5))
    )
    erase, preserve = torch.tensor([1.0, 0.0, 0.3, 0.0]).double(), torch.tensor([0.0, 1.0, 0.5, 0.0]).double()
    edited = method.edited(weight, concepts, guide, erase, preserve).requires_grad_()
    loss = 0.7 * (edited - weight).square().sum()
    for c, e, p in zip(concepts, erase, preserve, strict=True):
        loss = loss + e * (edited @ c - weight @ guide[0]).square().sum() + p * (edited @ c - weight @ c).square().sum()
    assert torch.autograd.grad(loss, edited)[0].abs().max() < 1e-10 and (edited - weight).abs().max() > 0.1
    torch.testing.assert_close(method.edited(weight, concepts, guide, erase * 0, preserve), weight)


def test_drawing_methods_train_cross_attention_alone_and_resteer_attention():
    import functools

    from mubench.registry import load_task

    task = load_task("digit_pictures")
    sets, fresh = task.sets("unet", task.split(5), 24), functools.partial(task.build, "unet", 0)
    for name, key in (("esd", "attn2"), ("forget_me_not", "attn2"), ("uce", "attn2.to_")):
        made = Context(task, fresh(), fresh, sets["forget"], sets["retain"])
        before, method = state(made.student), load_method(name, lr=0.01, epochs=4, optimizer="adam")
        engine = Engine(method, made, method.recipe(RECIPE), progress=False)
        engine.context.note(batch_size=8)
        costs = engine.run()
        changed = [k for k, v in made.student.state_dict().items() if not v.equal(before[k])]
        assert changed and all(key in k for k in changed)
        assert not any(module._forward_hooks for module in made.student.modules())
        if name == "forget_me_not":
            assert costs.losses[-1] < costs.losses[0]
            made = Context(task, fresh(), fresh, sets["forget"], sets["retain"])
            method = load_method(
                name, onward=False, lr=0.01, optimizer="adam"
            )  # the name alone gets less attention than it and what follows
            engine = Engine(method, made, method.recipe(RECIPE), progress=False)
            assert engine.run().losses[0] < 0.9 * costs.losses[0]


def test_concepts_are_the_tokens_that_name_the_label():
    from mubench.registry import load_task

    task = load_task("digit_pictures")
    tokens, ids = task.concepts("cpu"), task._tokens(task.encoder)
    assert tokens.sum(1).tolist() == [0] + [1] * 40
    named = ids[tokens].view(10, 4)
    assert (named == named[:, :1]).all() and len(named[:, 0].unique()) == 10
    assert task.asked({"prompt": torch.tensor([0, 1, 6, 40])}, "next")["prompt"].tolist() == [0, 5, 10, 4]


# --- reversal
# -------------------------------------------------------------------------------------------------------------


def test_reversal_leaves_what_other_batches_changed():
    """Without momentum: the sum of the changes of the batches that hold nothing of D_f; repair then sees D_r alone."""
    kept, seen = [], []

    class Watched(Engine.Loop):
        def step(self, step, *parts):
            before = state(self.context.student)
            loss = super().step(step, *parts)
            rows = self.schedule.views["union"][step[0][1]]["index"].tolist()
            seen.append((self.context.epoch, set(rows)))
            if not set(rows) & set(FORGET) and self.context.epoch <= 3:
                kept.append({k: v - before[k] for k, v in state(self.context.student).items()})
            return loss

    class Steps(Engine):
        Loop = Watched

    made = context()
    start, method = state(made.student), load_method("amnesiac", repair=0, epochs=3, batch_size=2, momentum=0.0)
    Steps(method, made, method.recipe(RECIPE), progress=False).run()
    for n, p in made.student.named_parameters():
        torch.testing.assert_close(p.detach(), start[n] + sum(k[n] for k in kept), rtol=1e-9, atol=1e-12)
    assert kept and len(kept) < len(seen)
    seen.clear()
    made, method = context(), load_method("amnesiac", repair=1, epochs=3, batch_size=2)
    Steps(method, made, method.recipe(RECIPE), progress=False).run()
    assert set.union(*(rows for epoch, rows in seen if epoch == 3)) == set(RETAIN)
    assert set.union(*(rows for epoch, rows in seen if epoch == 2)) == set(FORGET + RETAIN)


def test_a_target_of_none_wants_a_formula():
    assert Term("forget", "rep", "none", how=lambda *_: None).target == "none"
    with pytest.raises(Exception, match="is no term"):
        Term("forget", "rep", "none")


# --- work -------------------------------------------------------------------------------------------------------------

F, R, KINDS = len(FORGET), len(RETAIN), len({row % CLASSES for row in FORGET})
JOINT = R + 3 + 2  # examples of an epoch of pairs: all of D_r in 2 batches, as many of D_f's


def examples(name, behaviour=None, **hyperparameters):
    return run(name, context(behaviour=behaviour), **hyperparameters).context.meter.costs.examples


@pytest.mark.parametrize(
    "name, hyperparameters, expected",
    [
        ("ssd", {}, F + N),
        ("ssd", {"batch": 4, "alpha": 1.0}, F + N),
        ("fisher", {}, R),
        ("fisher", {"labels": "given"}, R),
        ("fisher", {"labels": "expected"}, CLASSES * R),
        ("influence", {}, N + R),
        ("influence", {"samples": 4}, N + 5),
        ("salun", {"epochs": 2}, F + 2 * N),
        ("neggrad", {"epochs": 2}, 2 * F),
        ("neggrad_plus", {"epochs": 2}, 2 * JOINT),
        ("boundary_shrink", {"epochs": 3}, 3 * 2 * F),
        ("unsir", {"impair": 0, "noises": 4, "noise_steps": 6, "retain_share": 1.0, "epochs": 1}, 6 * 4 * KINDS + R),
    ],
)
def test_hooks_and_one_shot_passes_count_their_examples(name, hyperparameters, expected):
    assert examples(name, **hyperparameters) == expected


def test_autoencoders_count_by_their_share_of_the_students_parameters():
    width, hidden, latent = 5, 2, 2
    weights = sum(a * b + b for a, b in ((width, hidden), (hidden, 2 * latent), (latent, hidden), (hidden, width)))
    share = weights / sum(p.numel() for p in Net().parameters())
    assert examples("laf", epochs=1, vae_epochs=7, latent=latent) == math.ceil(7 * N * share + JOINT)


def test_each_input_alone_is_one_more_pass():
    class Pairs(Classes):
        def paired(self, batch, order):
            return batch | {"x": batch["x"][order]}

        def one_input(self, batch, what):
            return batch | {"x": batch["x"] * (what == "text")}

    assert examples("multi_delete", Pairs(), epochs=1, alone="pictures") == JOINT + (JOINT - R)
    assert examples("multi_delete", Pairs(), epochs=1) == JOINT + 2 * (JOINT - R)


def test_a_pass_without_a_gradient_counts_its_flops_alone():
    """Uphill, an adversary needs a forward pass and the gradient of its inputs; at the neighbour a forward pass."""
    plain, adversary = (run(name, context(), epochs=1).context.meter.costs for name in ("neggrad", "boundary_shrink"))
    forward = 2 * F * sum(p.numel() for p in Net().parameters() if p.ndim > 1)
    assert adversary.flops - plain.flops == 3 * forward and adversary.examples - plain.examples == F


@pytest.mark.parametrize("name", ["laf", "rmu"])
def test_what_a_teacher_is_asked_before_the_first_step_counts(name):
    method, made = load_method(name), context()
    method.prepare(made)
    assert made.meter.costs.flops > 0 and (made.meter.examples > 0) == (name == "laf")


@pytest.mark.parametrize("length, steps", [("longer", (4, 2)), ("shorter", (2, 1)), ("forget", (2, 2))])
def test_an_epoch_of_pairs_ends_with_the_set_it_is_told(length, steps):
    """D_f has 2 batches and D_r 4, or 1."""
    made = [
        run("neggrad_plus", context(), epochs=1, epoch_length=length, forget_batch_size=2, batch_size=size)
        for size in (2, 9)
    ]
    assert tuple(engine.context.step for engine in made) == steps
