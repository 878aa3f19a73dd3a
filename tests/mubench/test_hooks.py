"""Each hook of a method with accumulation, with two processes and with LoRA: equal numbers, or a refusal.

python tests/mubench/test_hooks.py       writes the table of which into docs/processes.md
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

import hooks
from mubench import registry
from mubench.cli import main
from mubench.errors import MubenchError
from mubench.examples import Examples
from mubench.methods.base import Method, Term
from mubench.models.behaviour import Behaviour
from mubench.train.backward import shifted
from mubench.train.context import Context
from mubench.train.engine import Engine
from mubench.train.recipe import Recipe

PAGE = Path(__file__).parents[2] / "docs/processes.md"
BEGIN, END = "<!-- hooks -->\n", "<!-- /hooks -->\n"
ACCUMULATED = {"accumulate": 2}


def launched(folder):
    """What two processes give: (name → tensor, case → why it was refused)."""
    file = Path(folder) / "weights.safetensors"
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [sys.executable, *torchrun, hooks.__file__, str(file)], capture_output=True, text=True, timeout=300
    )
    assert not done.returncode, done.stderr[-3000:]
    with safe_open(file, "pt") as content:
        names = content.keys()
        return {name: content.get_tensor(name) for name in names}, content.metadata() or {}


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    return launched(tmp_path_factory.mktemp("two"))


def apart(one, other):
    """By how much two models differ, of how much the first moved."""
    start = hooks.Network().state_dict()
    difference, moved = ({k: (a[k] - b[k]).norm() for k in one} for a, b in ((one, other), (one, start)))
    return float(sum(difference.values()) / sum(moved.values()))


def outcome(name, case, pair):
    """``same weights``, or why it is refused; raises where the numbers differ.

    pair: () → (weights, [examples, losses…]) of the plain run and of the other.
    """
    try:
        (one, costs), (other, other_costs) = pair()
    except MubenchError as error:
        return str(error)
    assert apart(one, other) < 1e-9, f"{name}, {case}: the weights differ by {apart(one, other)}"
    assert costs == pytest.approx(other_costs, rel=1e-6), f"{name}, {case}: the costs differ"
    return "same"


def numbers(costs):
    return [costs.examples, costs.steps, costs.flops, *costs.losses]


def accumulated(name, case):
    def pair():
        runs = (hooks.unlearned(name, **hooks.sizes(**more), **hooks.CASES[case]) for more in ({}, ACCUMULATED))
        return [(weights, numbers(costs)) for weights, costs in runs]

    return outcome(name, f"{case}, accumulated", pair)


def shared(name, case, two):
    tensors, refused = two
    key = f"{name}/{case}"

    def pair():
        if key in refused:
            raise MubenchError(refused[key])
        weights, costs = hooks.unlearned(name, **hooks.sizes(), **hooks.CASES[case])
        other = {k: tensors[f"{key}/{k}"] for k in weights}
        return (weights, numbers(costs)), (other, tensors[f"{key}/costs"].tolist())

    return outcome(name, f"{case}, two processes", pair)


def adapted(name):
    """LoRA: the run is another than without, and moves nothing that has no adapter."""
    weights, _ = hooks.unlearned(name, **hooks.sizes(), **hooks.CASES["lora"])
    start = hooks.Network().state_dict()
    moved = {k for k in start if not torch.allclose(weights[k], start[k], rtol=0, atol=1e-15)}
    assert moved and all(k.endswith("weight") for k in moved)


def table(two):
    """The table of the docs, as Markdown."""
    lines = ["| | accumulation | two processes | LoRA |", "|---|---|---|---|"]
    for name, method in hooks.METHODS.items():
        cells = [accumulated(name, "plain"), shared(name, "plain", two)]
        adapted(name)
        lora = {accumulated(name, "lora"), shared(name, "lora", two)}
        cells.append("works" + ", with both" * (lora == {"same"}))
        shown = ["same weights" if cell == "same" else "refused" if i < 2 else cell for i, cell in enumerate(cells)]
        lines.append(f"| {method.__doc__.split(':')[0].replace('``', '`')} | {' | '.join(shown)} |")
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("name", hooks.METHODS)
@pytest.mark.parametrize("case", hooks.CASES)
def test_a_hook_gives_the_same_weights_with_accumulation_and_on_two_processes(name, case, two):
    found = [accumulated(name, case), shared(name, case, two)]
    if hooks.METHODS[name]().batchwise:
        why = "the loss of batchwise couples the examples of a batch, which may not be cut: run it"
        assert found == [f"{why} with accumulate=1, not 2", f"{why} on one process, not 2"]
    else:
        assert found == ["same", "same"]


@pytest.mark.parametrize("name", hooks.METHODS)
def test_a_hook_acts_and_works_with_lora(name):
    adapted(name)
    plain, _ = hooks.unlearned(name, **hooks.sizes())
    without = type("Joint", (hooks.Joint,), {"terms": hooks.METHODS[name]().terms})
    joint = hooks.unlearn(
        hooks.Network(), hooks.examples(10, 0), hooks.examples(21, 1), without(batch_size=8), head="classifier",
        progress=False,
    )  # fmt: skip
    if name not in ("Layer", "Batchwise", "Wrap"):  # these are terms, and a wrapper leaves the student as it is
        assert apart(plain, joint.model.state_dict()) > 1e-3


def test_the_table_of_the_docs_is_what_the_tests_find(two):
    assert BEGIN + table(two) + END in PAGE.read_text()


# --- each hook by itself ------------------------------------------------------------------------------------------


class Line(torch.nn.Module):
    """y = w · x: gradients are known."""

    def __init__(self, w=(1.0, 2.0)):
        super().__init__()
        self.w = torch.nn.Parameter(torch.tensor(w, dtype=torch.float64))

    def forward(self, x):
        return x @ self.w


class Squares(Behaviour):
    """The loss is y²/2, so its gradient is y x."""

    def forward(self, model, batch, features=False):
        from mubench.models.behaviour import Output

        return Output(model(batch["x"]).square() / 2)


def stepped(**members):
    """The weights after one step of rate 1 on D_f = {(1, 0)} and D_r = {(1, 1)}."""
    terms = Term("forget", "loss", "true", weight=-1.0), Term("retain", "loss", "true")
    method = type("One", (Method,), {"schedule": "joint", "terms": terms, **members})()
    x = torch.tensor([[1.0, 0.0], [1.0, 1.0]], dtype=torch.float64)
    sets = Examples({"x": x}, [0]), Examples({"x": x}, [1])
    context = Context(Squares(), Line(), Line, *sets)
    recipe = Recipe(lr=1.0, epochs=1, batch_size=1, optimizer="sgd", weight_decay=0.0, momentum=0.0, clip=0.0)
    Engine(method, context, recipe, progress=False).run()
    return context.student.w.tolist()


def test_the_gradients_of_both_sets_are_told_apart():
    given = {}

    def combine(self, context, gradients):
        given.update({on: found["w"].tolist() for on, found in gradients.items()})
        return {"w": gradients["retain"]["w"] - 2 * gradients["forget"]["w"]}

    assert stepped(combine=combine) == [1 - (3 + 2), 2 - 3]  # D_f: −1·(1, 0); D_r: 3·(1, 1)
    assert given == {"forget": [-1, 0], "retain": [3, 3]}
    assert stepped() == [1 - (3 - 1), 2 - 3]


def test_the_gradient_of_the_forget_set_alone_is_made_where_the_weights_are_moved_to():
    asked = []

    def perturb(self, context, gradients):
        asked.append(gradients()["w"].tolist())
        return {"w": torch.tensor([0.5, 7.0], dtype=torch.float64)}

    assert stepped(perturb=perturb) == [1 - (3 - 1.5), 2 - 3]
    assert asked == [[-1, 0]]


def test_moved_weights_are_what_they_were_to_the_last_bit():
    weight = torch.nn.Parameter(torch.tensor([0.1, 1e-20, -3.0]))
    before = weight.detach().clone()
    with shifted({"w": weight}, {"w": torch.tensor([1e10, 1.0, 1 / 3])}):
        assert not weight.equal(before)
    assert weight.equal(before)


def test_a_penalty_is_added_to_combined_gradients():
    members = {"combine": lambda self, context, gradients: gradients["retain"]}
    assert stepped(**members) == [1 - 3, 2 - 3]
    assert stepped(**members, penalty=lambda self, context: 10 * context.student.w[0]) == [1 - 13, 2 - 3]


def test_before_a_step_gradients_may_be_changed_and_the_sets_are_counted():
    counts = []

    def before_step(self, context, seen):
        counts.append(seen)
        context.student.w.grad[1] = 0

    assert stepped(before_step=before_step) == [1 - 2, 2]
    assert counts == [{"forget": 1, "retain": 1}]


@pytest.mark.parametrize("schedule", ["union", "alternate", "forget_only"])
def test_gradients_that_are_not_apart_are_refused(schedule):
    with pytest.raises(MubenchError, match=f"schedule='{schedule}'.* combines the gradients .* joint schedule"):
        hooks.METHODS["Combine"](schedule=schedule)


def test_a_batch_of_both_sets_is_not_perturbed():
    with pytest.raises(MubenchError, match="schedule='union'.* use joint or alternate"):
        hooks.METHODS["Perturb"](schedule="union")


@pytest.mark.parametrize("name", ["BeforeStep", "Combine", "Perturb"])
def test_scaled_gradients_are_refused(name):
    context = Context(Squares(), Line(), Line, *(Examples({"x": torch.zeros(2, 2)}, [i]) for i in range(2)))
    context.accelerator.mixed_precision = "fp16"
    with pytest.raises(MubenchError, match="looks at gradients, which float16 scales"):
        method = hooks.METHODS[name]()
        Engine(method, context, method.recipe(Recipe(lr=1, epochs=1, batch_size=1)))


@pytest.mark.parametrize("fact", ["retain", "forget", "task", "student", "batch_size", "masks", "epoch"])
def test_the_context_is_changed_by_its_verbs_only(fact):
    class Assigns(hooks.Joint):
        def prepare(self, context):
            setattr(context, fact, getattr(context, fact))

    hooks.METHODS["Assigns"] = Assigns
    try:
        with pytest.raises(MubenchError, match=rf"context.{fact} is not assigned to: .*replace\(forget=…, retain=…\)"):
            hooks.unlearned("Assigns")
    finally:
        del hooks.METHODS["Assigns"]


@pytest.mark.parametrize("mask", [{"nobody": torch.ones(2, dtype=torch.bool)}, {"w": torch.ones(3, dtype=torch.bool)}])
def test_a_mask_that_does_not_fit_is_refused(mask):
    with pytest.raises(MubenchError, match="the mask of .* is not a boolean tensor of the shape"):
        stepped(prepare=lambda self, context: context.mask(mask))


@pytest.mark.parametrize("layer", [-0.1, 1.5])
def test_a_layer_that_is_nowhere_is_refused(layer):
    with pytest.raises(MubenchError, match="a depth from 0 to 1"):
        Term("forget", "rep", "original", layer=layer)
    with pytest.raises(MubenchError, match="it is of a rep term"):
        Term("forget", "logit", "original", layer=0.5)


def test_methods_with_hooks_run_from_the_command_line_to_the_board(tmp_path, capsys):
    references = [f"{hooks.__file__}:{name}" for name in ("Combine", "Perturb", "BeforeStep")]
    out = ["--out", str(tmp_path)]
    main(["run", "fashion", ",".join(references), "--set", "epochs=1", "epoch_length=forget", "lr=0.01", *out])
    assert "3 done, 0 there before, 0 failed" in capsys.readouterr().out
    main(["board", str(tmp_path)])
    assert capsys.readouterr().out.count(" hooks (") == 3


def test_a_layer_that_the_model_lacks_is_refused():
    class Elsewhere(hooks.Joint):
        terms = Term("forget", "rep", "original", layer="body.7"), hooks.RETAIN

    with pytest.raises(MubenchError, match="unknown layer 'body.7': did you mean 'body.[01]'"):
        data = hooks.examples(20, 0)
        hooks.unlearn(hooks.Network(), data[:5], data[5:], Elsewhere(), head="classifier", progress=False)


def tried(method):
    """Run a method on the small problem."""
    sets = hooks.examples(8, 0), hooks.examples(12, 1)
    return hooks.unlearn(hooks.Network(), *sets, method, head="classifier", progress=False)


@pytest.mark.parametrize(
    "verb", ["replace(forget=context.forget)", "mask({})", "train_only([context.student.classifier])"]
)
@pytest.mark.parametrize("hook", ["after_epoch", "before_step"])
def test_the_verbs_of_the_context_are_for_before_the_training(verb, hook):
    late = lambda self, context, *_: eval(f"context.{verb}")
    method = type("Late", (hooks.Joint,), {hook: late})(batch_size=5)
    with pytest.raises(MubenchError, match=rf"context.{verb.partition('(')[0]}\(\) is for prepare\(\)"):
        tried(method)


@pytest.mark.parametrize("given", [[True, False] * 4, [-1], [8], [0.5], [[0], [1]]])
def test_what_select_gives_is_positions(given):
    method = type("Chooses", (hooks.Joint,), {"select": lambda self, context: torch.tensor(given)})()
    with pytest.raises(MubenchError, match="select\\(\\) of chooses gives"):
        tried(method)


@pytest.mark.parametrize("hook", ["combine", "perturb"])
@pytest.mark.parametrize("given", [None, [], {"nobody": torch.zeros(1)}, {"classifier.bias": torch.zeros(1)}])
def test_what_hooks_give_fits_the_parameters(hook, given):
    method = type("Wrong", (hooks.Joint,), {hook: lambda self, context, gradients: given})()
    with pytest.raises(MubenchError, match=rf"{hook}\(\) of wrong gives .*: it must give name"):
        tried(method)


@pytest.mark.parametrize("given", ["classifier", ["classifier"], torch.nn.Linear(1, 1)])
def test_what_is_trained_is_a_list_of_modules(given):
    method = type("Wrong", (hooks.Joint,), {"trainable": lambda self, student, head: given})()
    with pytest.raises(MubenchError, match="give a list of modules"):
        tried(method)


def test_nothing_to_train_is_refused():
    method = type("Empty", (hooks.Joint,), {"trainable": lambda self, student, head: []})()
    with pytest.raises(MubenchError, match="empty leaves nothing to train"):
        tried(method)


class Noisy(torch.nn.Module):
    """Dropout and batch norm, in which a further pass could leave its trace."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.body = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.BatchNorm1d(8), torch.nn.Dropout(0.5))
            self.classifier = torch.nn.Linear(8, 4)
        self.double()

    def forward(self, x):
        return self.classifier(self.body(x))


@pytest.mark.parametrize("options", [{}, {"curriculum": "superloss"}])
def test_looking_at_the_gradient_leaves_no_trace(options):
    def looks(self, context, gradients):
        gradients()
        return {}

    found = []
    for perturb in (lambda self, context, gradients: {}, looks):
        method = type("Looks", (hooks.Joint,), {"perturb": perturb})(batch_size=5)
        sets = hooks.examples(10, 0), hooks.examples(20, 1)
        done = hooks.unlearn(Noisy(), *sets, method, head="classifier", progress=False, **options)
        found.append(done.model.state_dict())
    assert all(found[0][name].equal(found[1][name]) for name in found[0])


def test_a_network_is_released_whatever_happens():
    class Fails(hooks.Joint):
        def trainable(self, student, head):
            return [student.get_submodule(head)]

        def prepare(self, context):
            context.train_only([context.student.get_submodule("classifier")])

        def after_epoch(self, context):
            raise ValueError("in the middle")

    sets, network = (hooks.examples(10, 0), hooks.examples(20, 1)), Noisy()
    with pytest.raises(ValueError, match="in the middle"):
        hooks.unlearn(network, *sets, Fails(), head="classifier", inplace=True, progress=False)
    assert all(p.requires_grad for p in network.parameters())
    assert not any(m._forward_pre_hooks for m in network.modules())


def test_what_its_owner_has_frozen_keeps_its_statistics():
    network, sets = Noisy(), (hooks.examples(10, 0), hooks.examples(20, 1))
    network.body.requires_grad_(False)
    before = network.body[1].running_mean.clone()
    done = hooks.unlearn(network, *sets, hooks.Joint(), head="classifier", progress=False)
    assert done.model.body[1].running_mean.equal(before) and not done.model.body[1].weight.requires_grad


@pytest.mark.parametrize("name, value", [("batch_size", 0), ("accumulate", 0), ("lr", -1), ("epochs", -1)])
def test_impossible_hyperparameters_are_refused(name, value):
    with pytest.raises(MubenchError, match=f"{name}={value}.* must be at least"):
        hooks.Joint(**{name: value})


# --- what may move, of all methods ----------------------------------------------------------------------------------


class Normed(torch.nn.Module):
    """Hidden layers with batch norm, as many as `rmu` leaves some of them frozen."""

    def __init__(self):
        super().__init__()
        layer = lambda: torch.nn.Sequential(torch.nn.Linear(6, 6), torch.nn.BatchNorm1d(6), torch.nn.ReLU())
        self.first = torch.nn.BatchNorm1d(6)
        self.body = torch.nn.ModuleList([layer() for _ in range(5)])
        self.classifier = torch.nn.Linear(6, 4)

    def forward(self, x):
        x = self.first(x)
        for layer in self.body:
            x = layer(x)
        return self.classifier(x)


FREEZING = [
    name
    for name in registry.methods.names()
    if registry.load_method(name).needs <= Behaviour.provides and registry.load_method(name).trainable
]


@pytest.mark.parametrize("name", FREEZING)
def test_what_is_frozen_keeps_its_statistics_too(name):
    network, data = Normed(), [{k: v.float() if k == "x" else v for k, v in e.items()} for e in hooks.examples(30, 0)]
    before = {k: v.clone() for k, v in network.state_dict().items()}
    done = hooks.unlearn(network, data[:10], data[10:], name, head="classifier", progress=False, batch_size=5)
    after, method = done.model.state_dict(), registry.load_method(name)
    method_modules = method.trainable(trained := Normed(), "classifier")
    inside = {id(m) for module in method_modules for m in module.modules()}
    counted = {name for name, m in trained.named_modules() if hasattr(m, "running_mean") and id(m) in inside}
    for key in (k for k in before if re.search("running_|num_batches", k)):
        moved = not after[key].equal(before[key])
        assert moved == (key.rpartition(".")[0] in counted), f"{key} of {name}"
    assert all(p.requires_grad for p in done.model.parameters()) and done.model.train().first.training
    assert not any(m._forward_pre_hooks for m in done.model.modules())


def test_some_methods_freeze():
    assert {"rmu", "eul"} <= {*FREEZING}


@pytest.mark.parametrize(
    "name", [n for n in registry.methods.names() if "prompts" not in registry.load_method(n).needs]
)
def test_a_method_that_finds_a_mask_says_so(name):
    found = []
    method = registry.load_method(name)
    if not method.needs <= Behaviour.provides | {"signal"}:
        pytest.skip("needs more than this problem has")
    watched = type("Watched", (type(method),), {"finish": lambda self, context: found.append(bool(context.masks))})
    data = hooks.examples(30, 0)
    options = {"validation": data, "fresh": hooks.Network, "head": "classifier", "max_steps": 1, "progress": False}
    hooks.unlearn(hooks.Network(), data[:10], data[10:], watched(), **options)
    assert found == [method.masks]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        text = PAGE.read_text()
        before, rest = text.split(BEGIN)
        PAGE.write_text(before + BEGIN + table(launched(folder)) + END + rest.partition(END)[2])
