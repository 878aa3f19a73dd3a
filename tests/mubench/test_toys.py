"""Tasks that are no row-wise classifiers, each from the command line to the board: a graph, pairs with a contrastive
loss, and proxies without a retain set."""

import functools
import json
from pathlib import Path

import datasets
import pytest
import torch

import mubench as mu
from mubench.contracts import PROBLEM, check_behaviour, check_method
from mubench.errors import MubenchError
from mubench.examples import Absent, Decoded, Examples, View, World
from mubench.job import Job, train_original
from mubench.leaderboard.board import board
from mubench.leaderboard.trust.layout import FILES
from mubench.leaderboard.trust.reading import read_run
from mubench.measure.predict import _share, predict, scores, shown
from mubench.models import originals
from mubench.records.predictions import read_predictions
from mubench.records.store import Store
from mubench.registry import load_method, load_task, methods, tasks
from mubench.spec import Budget, Incompatible, Options, make_spec, retrain_of
from mubench.sweep import memory
from mubench.tasks.base import RESERVED, Task
from mubench.train.context import Context
from mubench.train.gradients import gradients
from mubench.train.loader import batches

TOYS = Path(__file__).parents[1] / "toys"
GRAPH, PAIRS, PROXIES = (f"{TOYS}/{name}.py:{name.capitalize()}" for name in ("graph", "pairs", "proxies"))
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A folder of results for all tests of this file."""
    return tmp_path_factory.mktemp("toys")


@pytest.fixture(scope="module")
def trained():
    """The originals, each trained once."""
    for reference in (GRAPH, PAIRS, PROXIES):
        task = load_task(reference)
        if not originals.networks.weights(originals.trained_dir(task, task.model(), 0)):
            train_original(task, task.model(), progress=False)


@pytest.fixture
def verbs(cli, store, trained):
    """Runs a verb that has to succeed, and gives what it prints."""

    def run(*words):
        done = cli(*words)
        assert done.code == 0, done
        return done.out

    return run


def context(task, split, **options):
    sets = task.sets(task.model(), split)
    network = originals.load(task, task.model())[0]
    views = sets["forget"], sets.get("retain", Absent("retain"))
    made = Context(task, network, functools.partial(task.build, task.model()), *views, **options)
    made.note(batch_size=16, forget_batch_size=16)
    return made, sets


def rows_of(world):
    """The edges of an adjacency, each once."""
    at = world["adjacency"].triu(1).nonzero().tolist()
    return {tuple(pair) for pair in at}


# -- a graph: two worlds, two units


@pytest.mark.parametrize("unit", [None, "edge"])
def test_graph_from_the_command_line_to_the_board(unit, verbs, store):
    by = ["--unit", unit] if unit else []
    out = verbs("run", GRAPH, "original,neggrad,scrub,retrain", "--ratio", 10, *by, "--out", store)
    assert "4 done" in out and " by edge" in out if unit else "4 done" in out
    title = "graph / gcn / 10 %" + (" by edge" if unit else "")
    rows = board([store]).rows
    here = rows[rows["group"] == title]
    assert sorted(here["method"]) == ["neggrad", "original", "retrain", "scrub"]
    assert here.set_index("method").loc["retrain", "gap_to_retrain"] == 0 and (here["n"] == 1).all()
    name = "10-edge" if unit else "10"
    assert {*here["ratio"]} == {name}
    for folder in (store / "graph" / "gcn").glob(f"*/{name}/*"):
        result = read_run(folder).result
        assert result.split["name"] == name and result.spec["unit"] == unit
        assert (" --unit edge" in result.command) == bool(unit)


def test_graph_passes_its_check(verbs):
    out = verbs("check", GRAPH)
    assert "splits: 3 %" in out and "splits by edge: 1 %" in out and "original" in out
    assert "units     node, edge" in verbs("ls", GRAPH)


def test_units_are_ranked_as_ever_and_carried_everywhere():
    task, people = load_task(GRAPH), load_task("people")
    split = task.split(10, unit="edge")
    pairs = {(row["node"], row["neighbour"]) for row in task.data["train"].select(split.forget)}
    assert {pair[::-1] for pair in pairs} == pairs and split.name == "10-edge"
    nodes = {row["node"] for row in task.data["train"].select(task.split(10).forget)}
    asked = task.data["train"]["node"]
    assert all(row in task.split(10).forget for row, node in enumerate(asked) if node in nodes)
    assert task.split(10, unit="node") == task.split(10)
    spec = make_spec(task=GRAPH, method="neggrad", ratio=10, unit="edge")
    assert retrain_of(spec).unit == "edge" and spec.folder.parts[-2] == "10-edge"
    assert make_spec(task=GRAPH, method="neggrad", unit="node").id == make_spec(task=GRAPH, method="neggrad").id
    assert spec.id != make_spec(task=GRAPH, method="neggrad", ratio=10).id
    assert people.split(5).forget != people.split(5, unit="row").forget and people.unit_kinds == ("person", "row")
    with pytest.raises(MubenchError, match="unit of graph 'edges'.*'edge'"):
        make_spec(task=GRAPH, method="neggrad", unit="edges")
    with pytest.raises(MubenchError, match="unit of fashion 'person'"):
        load_task("fashion").split(5, unit="person")


@pytest.mark.parametrize("unit", ["node", "edge"])
def test_the_world_of_the_retain_set_has_no_deleted_edge(unit):
    task = load_task(GRAPH)
    split = task.split(10, unit=unit)
    sets = task.sets("gcn", split)
    before, after = (rows_of(sets[name].world) for name in ("train", "retain"))
    train = task.data["train"].select(split.forget)
    gone = {tuple(sorted(pair)) for pair in zip(train["node"], train["neighbour"], strict=True)}
    assert before - after == gone and gone and after < before
    test = {tuple(sorted(pair)) for pair in zip(task.data["test"]["node"], task.data["test"]["neighbour"], strict=True)}
    assert test <= after
    # D_f is trained on in D's world; everything is evaluated in that of D_r
    assert sets["forget"].world is sets["train"].world and sets["retain"].world is sets["test"].world
    assert {id(view.world) for view in shown(task, sets).values()} == {id(sets["retain"].world)}
    whole = task.sets("gcn")
    assert whole["test"].world is whole["train"].world and not {"forget", "retain"} & {*whole}  # nothing is forgotten
    task.evaluated_on = "all"
    sets = task.sets("gcn", split)
    assert {id(view.world) for view in shown(task, sets).values()} == {id(sets["forget"].world)}
    assert sets["retain"].world is not sets["forget"].world


@pytest.mark.parametrize("method", ["retrain", "scrub", "salun"])
def test_each_set_is_trained_on_in_its_own_world(method, trained):
    task, seen = load_task(GRAPH), {"forget": set(), "retain": set()}
    job = Job.of(make_spec(task=GRAPH, method=method, ratio=10, unit="edge"), task)
    forgotten, forward = {*job.split.forget}, task.forward

    def watched(model, batch, features=False):
        for row in batch["index"].tolist():
            seen["forget" if row in forgotten else "retain"].add(id(batch["world"]))
        return forward(model, batch, features)

    task.forward = watched
    job.train(progress=False)
    assert seen["retain"] == {id(job.sets["retain"].world)}
    assert seen["forget"] == (set() if method == "retrain" else {id(job.sets["train"].world)})


def test_the_original_is_trained_and_carded_in_the_whole_world_and_evaluated_in_the_remaining_one(trained, store):
    task = load_task(GRAPH)
    network, facts = originals.load(task, "gcn")
    whole = scores(task, predict(task, network, {"train": task.sets("gcn")["train"]}))
    assert whole["train"] == facts["card"]["scores"]["train"] >= task.fits
    spec = make_spec(task=GRAPH, method="neggrad", ratio=30)
    job = Job.of(spec, task)
    here = scores(task, predict(task, network, job.shown))
    assert job.original_score("test") == here["test"]
    assert here["retain"] < whole["train"]  # the graph has changed, the weights have not
    job = Job.of_original(task, "gcn")
    assert {id(view.world) for view in job.sets.values()} == {id(job.sets["train"].world)}


def test_states_of_nodes_are_no_states_of_examples(trained):
    job = Job.of(make_spec(task=GRAPH, method="rmu", ratio=10, unit="edge"), load_task(GRAPH))
    with pytest.raises(MubenchError, match="gives 30 states for .* examples: they do not belong to examples"):
        job.train(progress=False)


@pytest.mark.parametrize(
    "ratio, good", [("5", True), ("5-edge", True), ("file", True), ("5-", False), ("5-../x", False)]
)
def test_a_submission_has_a_place_for_units(ratio, good):
    path = f"results/people/llama/neggrad/{ratio}/0123456789ab/result.json"
    assert bool(FILES.fullmatch(path)) == good


def test_a_teacher_answers_in_each_world(trained):
    task = load_task(GRAPH)
    made, sets = context(task, task.split(10))
    teacher, forget = made.teacher("original"), sets["forget"]
    elsewhere = forget.within(sets["retain"].world)
    here, there = (teacher.outputs(view).logits for view in (forget, elsewhere))
    assert not torch.allclose(here, there)
    for view, logits in ((forget, here), (elsewhere, there)):
        with torch.no_grad():
            assert torch.allclose(task.forward(made.original, view[torch.arange(len(view))]).logits, logits, atol=1e-6)


def test_sets_of_two_worlds_are_never_one(trained):
    task = load_task(GRAPH)
    sets = task.sets("gcn", task.split(10))
    with pytest.raises(MubenchError, match="different worlds"):
        sets["forget"] + sets["retain"]
    with pytest.raises(Incompatible, match="D_f and D_r in one batch"):
        make_spec(task=GRAPH, method="bad_t")
    joined = sets["retain"] + sets["test"]
    assert joined.world is sets["retain"].world and len(joined) == len(sets["retain"]) + len(sets["test"])


def test_gradients_of_single_examples_in_a_world(trained):
    task = load_task(GRAPH)
    made, sets = context(task, task.split(10))
    view = sets["retain"].select(torch.arange(5))
    (batch, found), *rest = gradients(made, view)
    assert not rest and batch["world"] is view.world
    for i in range(5):
        loss = task.forward(made.student.eval(), made.batch(view, torch.tensor([i]), "")).loss.mean()
        for (name, _), g in zip(
            made.student.named_parameters(), torch.autograd.grad(loss, [*made.student.parameters()]), strict=True
        ):
            assert torch.allclose(found[name][i], g, atol=1e-6)


def test_a_world_is_moved_once_and_no_worker_is_sent_one():
    world = World(x=torch.ones(3))
    assert world.to(CPU) is world
    meta = world.to("meta")
    assert meta["x"].device.type == "meta" and world.to("meta") is meta
    rows = datasets.Dataset.from_dict({"x": [1.0, 2.0, 3.0]})
    view = Decoded(rows, tensors).within(world)
    found = [*batches({None: view}, [(None, torch.tensor([0, 1])), (None, torch.tensor([2]))], CPU)]
    assert all(batch["world"] is world for batch in found) and found[1]["x"].tolist() == [3.0]


def tensors(rows):
    return {"x": torch.tensor(rows["x"])}


def test_take_indexes_what_belongs_to_the_examples():
    world = World(x=torch.arange(4))
    view = Examples({"x": torch.arange(4), "y": torch.arange(8).view(4, 2)}).within(world)
    batch = view[torch.arange(4)] | {"scale": torch.ones(3), "zero": torch.tensor(1.0)}
    for rows in (torch.tensor([3, 1]), slice(1, 3)):
        some = load_task("fashion").take(batch, rows)
        assert some["world"] is world and some["scale"] is batch["scale"] and some["zero"] is batch["zero"]
        assert some["index"].tolist() == some["x"].tolist() == torch.arange(4)[rows].tolist()
        assert torch.equal(some["y"], batch["y"][rows])
    assert "world" not in Examples({"x": torch.arange(4)})[torch.arange(2)]


def test_memory_is_foretold_in_a_world():
    task = load_task(GRAPH)
    batch = task.example("gcn", 4)
    found = memory._activations(task, task.build("gcn"), batch | {"index": torch.arange(4)}, {"loss"}, lambda t: t)
    assert {*found} == {False, True} and rows_of(batch["world"])


# -- pairs: the loss couples the examples of a batch


def test_pairs_from_the_command_line_to_the_board(verbs, store):
    out = verbs("run", PAIRS, "original,neggrad,scrub,bad_t,ssd,retrain", "--ratio", 10, "--out", store)
    assert "5 done" in out and "ssd cannot work on pairs: it needs a loss of each example" in out
    rows = board([store]).rows
    assert {*rows[rows["task"] == "pairs"]["method"]} == {"original", "neggrad", "scrub", "bad_t", "retrain"}
    assert (rows[rows["task"] == "pairs"]["gap_to_retrain_n"] == 1).all()
    assert "forward, corrupt and predict" in verbs("check", PAIRS)


def test_a_world_that_no_model_reads_is_caught(trained):
    task = load_task(GRAPH)
    task.forward = lambda model, batch, features=False: type(task).forward(
        task, model, batch | {"world": task.sets("gcn")["train"].world}, features
    )
    with pytest.raises(MubenchError, match="gcn: what the model gives depends on the world, or there is none"):
        list(check_behaviour(task))


def test_a_batchwise_loss_that_is_not_declared_is_caught(trained):
    task = load_task(PAIRS)
    task.batchwise = False
    with pytest.raises(MubenchError, match="does not depend on the others of its batch, or batchwise = True"):
        [*check_behaviour(task)]


def test_batches_of_coupled_examples_are_cut_by_nobody(trained):
    task = load_task(PAIRS)
    made, sets = context(task, task.split(10))
    batch, rows = made.batch(sets["retain"], torch.arange(12), ""), torch.tensor([1, 5, 6])
    some = task.take(batch, rows)
    assert torch.equal(some["alike"], some["labels"][:, None] == some["labels"])
    teacher = made.teacher("original")
    assert not teacher.keeps_outputs
    whole = teacher.answer(batch, slice(None)).loss
    assert torch.equal(teacher.answer(batch, rows).loss, whole[rows])
    with torch.no_grad():
        assert not torch.allclose(task.forward(made.original, some).loss, whole[rows])
    with pytest.raises(MubenchError, match="couples the examples of a batch"):
        next(gradients(made, sets["retain"]))
    task.evaluation_batch = 10
    shares = [_share(task, View(25), rank, 2) for rank in (0, 1)]
    assert sorted(map(len, shares[0] + shares[1])) == [5, 10, 10]


# -- proxies: no retain set, D_f outside of D, further scored sets


def test_proxies_from_the_command_line_to_the_board(verbs, store):
    out = verbs("run", PROXIES, "all", "--ratio", 20, "--out", store, "--eval-every", 5)
    names = [n for n in methods.names() if "retain" not in load_method(n).needs]
    done = sorted(path.name for path in (store / "proxies" / "mlp").iterdir())
    provided = load_task(PROXIES).provides
    assert done == sorted(n for n in names if load_method(n).needs <= provided) and "neggrad" in done
    assert "retrain cannot work on proxies: it needs a retain set" in out and "0 failed" in out
    made = board([store])
    rows = made.rows[made.rows["task"] == "proxies"]
    assert "retrain" not in {*rows["method"]} and not any("proxies" in note for note in made.notes if "retrain" in note)
    assert (
        rows["retain_score"].isna().all()
        and rows["siblings_score"].notna().all()
        and (rows["others_score_n"] == 1).all()
    )
    table = lambda title: made.text().split(f"{title}\n\n")[1].split("\n\n")[0]
    head = table("proxies / mlp / 20 %").splitlines()[0]
    assert "siblings" in head and "others" in head and "retain" not in head
    assert "retain" in table("graph / gcn / 10 %") and "siblings" not in table("graph / gcn / 10 %")
    for folder in Store(store / "proxies").results():
        run = read_run(folder)  # verified: names, sets and scores
        frame, metrics = read_predictions(folder), run.metrics
        assert {*frame["set"]} == {"test", "forget", "siblings", "others"} and "retain_score" not in metrics
        for name in ("siblings", "others"):
            assert metrics[f"{name}_score"] == frame[frame["set"] == name]["score"].mean()
        assert run.result.task["scored_sets"] == ["siblings", "others"]
        assert {"siblings_score", "others_score"} <= {*run.result.curve[-1]}
        assert run.result.budget["examples"] in (None, 6 * 60)  # the recipe's epochs × |D|
    assert "concept" in verbs("ls", PROXIES) and "siblings: test rows" in verbs("ls", PROXIES)
    assert "corrupt and predict" in verbs("check", PROXIES)
    folder = next((store / "proxies" / "mlp" / "neggrad" / "20").iterdir())
    page = Path(verbs("report", folder, "--out", store / "report.html") and store / "report.html").read_text()
    assert "Score on the set siblings" in page


def test_proxies_lie_outside_of_the_training_rows(trained):
    task = load_task(PROXIES)
    split, model = task.split(20), task.model()
    sets = task.sets(model, split)
    concepts = {task.data["train"][row]["label"] for row in split.forget}
    assert len(concepts) == 1 and "retain" not in sets
    labels = lambda view: {*view[torch.arange(len(view))]["labels"].tolist()}
    assert labels(sets["forget"]) == concepts and len(sets["forget"]) == 6
    proxies, train = (task.data[name].with_format("torch")["x"][:] for name in ("proxies", "train"))
    assert torch.equal(sets["forget"][torch.arange(6)]["x"], proxies[sets["forget"].rows])
    assert not (proxies[:, None] == train).all(-1).any()
    (forgotten,) = concepts
    assert labels(sets["siblings"]) == {k for k in range(6) if k % 2 == forgotten % 2} - concepts
    assert not labels(sets["others"]) & (labels(sets["siblings"]) | concepts)


def test_what_needs_a_retain_set_is_refused_before_anything_is_loaded(cli, trained, tmp_path):
    with pytest.raises(Incompatible, match="retrain cannot work on proxies: it needs a retain set"):
        make_spec(task=PROXIES, method="retrain")
    done = cli("tune", PROXIES, "neggrad", "--ratio", 20, "--out", tmp_path)
    assert done.code == 1 and "no retain set" in done.err
    task = load_task(PROXIES)
    spec = make_spec(task=PROXIES, method="neggrad", ratio=20)
    assert Budget.of(spec, load_method("neggrad"), task).examples == task.recipe.epochs * len(task.data["train"])
    assert task.retraining_rows(10, 50) == 60 and load_task("fashion").retraining_rows(250, 4750) == 4750


def examples(n=12):
    return [{"x": torch.randn(6), "labels": i % 4} for i in range(n)]


def test_a_model_of_ones_own_without_a_retain_set():
    model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Linear(8, 4))
    model.forward = lambda x: model[1](model[0](x).tanh())
    done = mu.unlearn(model, examples(), method="neggrad", progress=False)
    assert done.costs.steps
    with pytest.raises(MubenchError, match="salun needs a retain set: pass retain="):
        mu.unlearn(model, examples(), method="salun")


ALONE = [name for name in methods.names() if "retain" not in load_method(name).needs]


@pytest.mark.parametrize("name", ALONE)
def test_every_method_that_needs_no_retain_set_runs_without_one(name):
    method = load_method(name)
    reference = next(
        t for t in tasks.names() if method.needs <= set(tasks.get(t).provides) and tasks.get(t).tier == "mini"
    )
    task = load_task(reference)
    model = task.model()
    sets = {k: v for k, v in task.sets(model, task.split(5), limit=8).items() if k != "retain"}
    build = functools.partial(task.build, model)
    facts = sets, task.build(model), build, task.model_recipe(model)
    job = Job.make(task, method, Options(max_steps=1), *facts, model=model)
    job.train(progress=False)
    assert isinstance(job.context.retain, Absent)
    with pytest.raises(MubenchError, match="there is no retain set here"):
        len(job.context.retain)


def test_a_hook_that_uses_a_retain_set_without_saying_so_is_told():
    class Sly(methods.base):
        """Ascent on D_f that looks at D_r behind everybody's back."""

        schedule, name = "forget_only", "sly"
        terms = (load_method("neggrad").terms[0],)

        def finish(self, context):
            context.retain[torch.arange(1)]

    assert Sly().needs <= PROBLEM - {"retain"}
    with pytest.raises(MubenchError, match=r"requires = frozenset\(\{'retain'\}\)"):
        [*check_method(Sly)]


@pytest.mark.parametrize(
    "facts, why",
    [
        ({"scored_sets": {"Far away": ""}}, "snake_case"),
        *(({"scored_sets": {name: ""}}, "other than") for name in RESERVED),
        ({"unit_kinds": ("Person",)}, "snake_case"),
        ({"unit_kinds": ()}, "at least one"),
        ({"unit_kinds": ("row", "row")}, "different"),
        ({"evaluated_on": "some"}, "remaining"),
    ],
)
def test_what_a_card_declares_of_sets_and_units_is_checked(facts, why):
    with pytest.raises(MubenchError, match=why):
        type("Card", (Task,), facts)


def test_a_scored_set_that_is_not_given_is_said(trained):
    task = load_task(PROXIES)
    task.scored_sets = {"nowhere": "is not there"}
    with pytest.raises(MubenchError, match="'nowhere', but neither read"):
        shown(task, task.sets("mlp", task.split(20)))


def test_a_strangers_scored_set_takes_no_known_name(verbs, store, tmp_path):
    verbs("run", PROXIES, "neggrad", "--ratio", 20, "--out", store)
    folder = next((store / "proxies" / "mlp" / "neggrad" / "20").iterdir())
    record = json.loads((folder / "result.json").read_text())
    for name, metrics in (("original", {}), ("siblings", {"unknown_score": 0.5})):
        changed = record | {"metrics": record["metrics"] | metrics}
        changed["task"] = record["task"] | {"scored_sets": [name, "others"]}
        copy = tmp_path / name
        copy.mkdir()
        (copy / "predictions.parquet").write_bytes((folder / "predictions.parquet").read_bytes())
        (copy / "result.json").write_text(json.dumps(changed))
        if name == "original":
            with pytest.raises(MubenchError, match="another set"):
                read_run(copy)
        else:
            assert "unknown_score" not in read_run(copy).metrics
