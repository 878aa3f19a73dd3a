"""A run is a function of its spec and the code: of nothing that lies beside it, and of no clock."""

import json
import shlex
import threading
from collections import Counter

import pytest

import mubench as mu
from mubench import registry, runner
from mubench.errors import MubenchError
from mubench.fingerprint import fingerprint
from mubench.job import Job
from mubench.models import originals
from mubench.records.result import RESULT, read
from mubench.records.store import Store
from mubench.registry import load_task
from mubench.spec import Budget, RunSpec, command, make_spec, retrain_of
from mubench.sweep import grid

LIMIT = 60
METHOD = '''
from mubench.methods.base import Method, Term

class Mine(Method):
    """Descend."""
    schedule = "joint"
    lr_factor = 0.1
    terms = Term("retain", "loss", "true"), Term("forget", "loss", "true", weight=-0.1)
'''


def spec(method="neggrad_plus", **options):
    return make_spec(**{"task": "fashion", "method": method, "limit": LIMIT} | options)


# -- nothing beside it counts ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The result of a run in an empty store."""
    return read(runner.run_spec(spec(), Store(tmp_path_factory.mktemp("alone")), progress=False))


def same(one, other):
    assert (one.id, one.weights, one.budget, one.command) == (other.id, other.weights, other.budget, other.command)
    assert (
        one.costs["examples"] == other.costs["examples"]
        and one.costs["flops"] == other.costs["flops"]
        and one.metrics == other.metrics
    )


def test_a_retraining_that_took_no_time_lies_beside_it(alone, tmp_path):
    store, retrain = Store(tmp_path), retrain_of(spec())
    folder = runner.run_spec(retrain, store, progress=False)
    record = json.loads((folder / RESULT).read_text())
    record["costs"] |= {"unlearning_seconds": 0.0, "cpu_seconds": 0.0, "examples": 0, "flops": 0}
    (folder / RESULT).write_text(json.dumps(record))
    assert store.done(retrain)
    same(alone, read(runner.run_spec(spec(), store, progress=False)))


def test_the_machine_is_busy(alone, tmp_path):
    stop = threading.Event()
    load = [threading.Thread(target=lambda: [sum(range(10_000)) for _ in iter(stop.is_set, True)]) for _ in range(3)]
    for thread in load:
        thread.start()
    try:
        same(alone, read(runner.run_spec(spec(), Store(tmp_path), progress=False)))
    finally:
        stop.set()


def test_workers_share_the_machine(alone, tmp_path):
    done, _, failed = grid.sweep([spec(), spec("neggrad")], tmp_path, workers=2)
    assert len(done) == 2 and not failed
    same(alone, read(Store(tmp_path).path(spec())))


def test_the_printed_command_repeats_it(alone, tmp_path, cli):
    words = shlex.split(alone.command)
    assert words[-4:] == ["--max-examples", str(10 * LIMIT), "--limit", str(LIMIT)]
    assert cli(*words[1:], "--out", tmp_path).code == 0
    same(alone, read(Store(tmp_path).path(spec())))


# -- the budget --------------------------------------------------------------------------------------------------------


def test_the_budget_is_what_retraining_uses_and_stands_in_the_record(alone, tmp_path):
    assert alone.budget == {"examples": 10 * LIMIT, "steps": None, "seconds": None}
    retrained = mu.run("fashion", "retrain", limit=LIMIT, out=tmp_path)
    assert (
        retrained.costs["examples"] == retrained.budget["examples"] == 10 * LIMIT
        and retrained.costs["stopped_by"] == "epochs"
    )
    task = load_task("fashion")
    assert (
        Budget.of(make_spec(task="fashion", method="salun"), registry.load_method("salun"), task).examples == 10 * 4750
    )
    assert Budget.of(make_spec(task="fashion", method="salun", max_examples=7, max_steps=3), None, task) == Budget(7, 3)


def test_a_budget_of_one_own_is_another_run_and_the_default_said_aloud_is_not():
    whole = make_spec(task="fashion", method="salun")
    assert make_spec(task="fashion", method="salun", max_examples=47500) == whole
    assert make_spec(task="fashion", method="salun", max_examples=47499).id != whole.id


def test_time_cuts_only_where_the_user_said_so(tmp_path):
    assert mu.run("fashion", "finetune", limit=LIMIT, max_seconds=1e-9, out=tmp_path).costs["stopped_by"] == "seconds"
    assert mu.run("fashion", "finetune", limit=LIMIT, out=tmp_path).costs["stopped_by"] == "epochs"


def test_passes_in_hooks_use_up_the_budget(tmp_path):
    """SalUn's saliency is one pass over D_f; its epoch ends one batch early where the budget has no room for it."""
    job = Job.of(spec("salun", params={"batch_size": 20, "epochs": 1}))
    assert job.train(progress=False).costs.examples == 3 * LIMIT
    short = mu.run(
        "fashion",
        "salun",
        limit=LIMIT,
        params={"batch_size": 20, "epochs": 1},
        max_examples=3 * LIMIT - 1,
        out=tmp_path,
    )
    assert short.costs["examples"] == 3 * LIMIT - 20 and short.costs["stopped_by"] == "examples"


def test_a_pass_of_a_hook_that_goes_over_the_budget_is_said(tmp_path):
    one_shot = mu.run("fashion", "ssd", limit=LIMIT, max_examples=100, out=tmp_path)
    assert one_shot.costs["examples"] == 3 * LIMIT > 100 and one_shot.costs["stopped_by"] == "examples"


def test_a_method_that_needs_more_than_retraining_runs_to_its_end(tmp_path):
    done = mu.run("fashion", "amnesiac", limit=LIMIT, out=tmp_path)
    assert (
        done.costs["stopped_by"] == "epochs"
        and done.budget["examples"] is None
        and "--max-examples" not in done.command
    )
    retrained = mu.run("fashion", "retrain", limit=LIMIT, out=tmp_path)
    assert done.costs["examples"] > retrained.costs["examples"] and done.costs["flops"] > retrained.costs["flops"]


def test_work_is_counted_and_so_the_same_each_time(tmp_path):
    """A vectorised pass over single examples counts as much as the same examples in a batch."""
    ssd, neggrad = (mu.run("fashion", name, limit=LIMIT, out=tmp_path) for name in ("ssd", "neggrad"))
    assert ssd.costs["examples"] == 3 * LIMIT and neggrad.costs["examples"] == LIMIT
    assert ssd.costs["flops"] == 3 * neggrad.costs["flops"]


# -- the code ----------------------------------------------------------------------------------------------------------


def write(path, text=METHOD):
    path.write_text(text)
    return f"{path}:Mine"


def test_layout_and_comments_are_no_part_of_the_code(tmp_path):
    path = tmp_path / "mine.py"
    one = spec(write(path))
    other = (
        METHOD.replace('"""Descend."""', '"""Descend on D_r, and ascend."""\n\n    # a comment')
        .replace('"joint"', "'joint'")
        .replace(", Term(", ",\\\n        Term(")
    )
    two = spec(write(path, other + "\n\n# the end\n"))
    assert one.id == two.id and other != METHOD


def test_where_the_core_keeps_what_it_imports_is_no_part_of_it(tmp_path):
    """Files of the core move; what a name stands for there has a number of its own, the engine's."""
    path, imported = tmp_path / "mine.py", "from mubench.{} import {}\n\n" + METHOD
    first = spec(write(path, imported.format("errors", "MubenchError"))).id
    assert spec(write(path, imported.format("cache", "MubenchError"))).id == first
    assert spec(write(path, imported.format("errors", "nearest"))).id != first


@pytest.mark.parametrize(
    "change",
    [
        ("0.1\n", "0.2\n"),
        ("-0.1", "-0.2"),
        ('"joint"', '"alternate"'),
        ('Descend."""', 'Descend."""\n    extra: int = 1'),
    ],
)
def test_what_the_code_does_is(tmp_path, change):
    path = tmp_path / "mine.py"
    one = spec(write(path)).id
    assert spec(write(path, METHOD.replace(*change))).id != one


def test_helpers_are_part_of_it(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    helper, path = tmp_path / "helper_of_mine.py", tmp_path / "mine.py"
    helper.write_text("WEIGHT = -0.1\n")
    reference = write(
        path, METHOD.replace("\nclass", "from helper_of_mine import WEIGHT\n\nclass").replace("-0.1", "WEIGHT")
    )
    one = registry.methods.fingerprint(reference)
    helper.write_text("# of mine\nWEIGHT = -0.1\n")
    fingerprint.cache_clear()
    assert registry.methods.fingerprint(reference) == one
    helper.write_text("WEIGHT = -0.2\n")
    fingerprint.cache_clear()
    assert registry.methods.fingerprint(reference) != one


def code(tmp_path, files, monkeypatch):
    """The fingerprint of ``mine.py`` among some files."""
    monkeypatch.syspath_prepend(str(tmp_path))
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    fingerprint.cache_clear()
    return registry.methods.fingerprint(f"{tmp_path / 'mine.py'}:Mine")


@pytest.mark.parametrize(
    "files, changed",
    [
        (
            {"pack_a/__init__.py": "X = 1", "pack_a/inner.py": "", "mine.py": "import pack_a.inner\n" + METHOD},
            {"pack_a/__init__.py": "X = 2"},
        ),
        (
            {
                "pack_b/__init__.py": "",
                "pack_b/sub/__init__.py": "from .deep import X",
                "pack_b/sub/deep.py": "X = 1",
                "mine.py": METHOD.replace("\nclass", "from pack_b.sub import X\n\nclass"),
            },
            {"pack_b/sub/deep.py": "X = 2"},
        ),
        ({"mine.py": "paper = 0.1\n" + METHOD}, {"mine.py": "paper = 0.9\n" + METHOD}),
        (
            {"mine.py": METHOD.replace("lr_factor =", "lr_factor = paper =")},
            {"mine.py": METHOD.replace("lr_factor = 0.1", "lr_factor = paper = 0.2")},
        ),
    ],
)
def test_packages_of_ones_own_and_names_that_look_like_documentation_are_part_of_it(
    tmp_path, monkeypatch, files, changed
):
    assert code(tmp_path, files, monkeypatch) != code(tmp_path, changed, monkeypatch)


def test_what_only_documents_is_not(tmp_path, monkeypatch):
    said = METHOD.replace("    schedule", '    paper = "A"\n    deviations = ("x",)\n    schedule')
    assert code(tmp_path, {"mine.py": METHOD}, monkeypatch) == code(tmp_path, {"mine.py": said}, monkeypatch)


def test_libraries_are_not_wherever_they_lie(tmp_path, monkeypatch):
    """A folder of libraries on the path is no file of the user's, and methods of the suite have no helpers outside
    it.
    """
    library = tmp_path / "elsewhere" / "site-packages" / "a_library_of_somebody"
    library.mkdir(parents=True)
    (library / "__init__.py").write_text("X = 1\n")
    monkeypatch.syspath_prepend(str(library.parent))
    files = {"mine.py": "import a_library_of_somebody\n" + METHOD}
    one = code(tmp_path, files, monkeypatch)
    (library / "__init__.py").write_text("X = 2\n")
    assert code(tmp_path, files, monkeypatch) == one


def test_every_method_has_its_own_and_parents_count():
    found = Counter(map(registry.methods.fingerprint, registry.methods.names()))
    assert len(found) == len(registry.methods.names()) and all(len(known) == 16 for known in found)


def test_it_is_what_ran_whatever_becomes_of_the_file(tmp_path):
    path = tmp_path / "mine.py"
    job = Job.of(spec(write(path)))
    known = fingerprint(type(job.method))
    write(path, METHOD.replace("0.1", "0.7"))
    assert fingerprint(type(job.method)) == known


def test_the_record_holds_it_and_the_integers(alone):
    assert alone.engine == 1 and alone.method["version"] == 1 and alone.task["version"] == 1
    assert alone.method["fingerprint"] == registry.methods.fingerprint("neggrad_plus")


# -- seeds -------------------------------------------------------------------------------------------------------------


def test_seed_s_starts_from_original_s(tmp_path):
    task = load_task("fashion")
    facts = [Job.of(spec(seed=seed)).checkpoint for seed in (0, 1, 2)]
    assert [one["source"] for one in facts] == [
        str(task.originals_dir("resnet")),
        *(str(originals.trained_dir(task, "resnet", s)) for s in (1, 2)),
    ]
    assert [one["card"]["seed"] for one in facts] == [0, 1, 2]
    record = mu.run("fashion", "original", seed=1, limit=LIMIT, out=tmp_path)
    assert (
        record.checkpoint["seed"] == 1
        and record.checkpoint["source"] == f"fashion/{originals.trained_dir(task, 'resnet', 1).name}"
    )


def test_originals_of_another_recipe_or_code_are_other_originals(monkeypatch):
    task = load_task("fashion")
    known = originals.trained_dir(task, "resnet", 1)
    monkeypatch.setattr(originals, "ENGINE", 2)
    assert originals.trained_dir(task, "resnet", 1) != known
    monkeypatch.undo()
    task.recipe = type(task.recipe)(**vars(task.recipe) | {"epochs": 1})
    assert originals.trained_dir(task, "resnet", 1) != known


# -- protocols, command lines ------------------------------------------------------------------------------------------


def test_the_official_protocol_is_the_authors_settings(tmp_path):
    suite, official = (spec("finetune", protocol=protocol).make_method() for protocol in ("suite", "official"))
    assert suite.optimizer is None and official.optimizer == "sgd" and official.clip == 0
    assert spec("finetune", protocol="official", params={"optimizer": "sgd"}) == spec("finetune", protocol="official")
    record = mu.run("fashion", "neggrad", protocol="official", limit=LIMIT, out=tmp_path)
    assert record.method["recipe"]["optimizer"] == "sgd" and "--protocol official" in record.command
    with pytest.raises(MubenchError, match="eul has no official protocol"):
        spec("eul", protocol="official")


def test_the_rate_has_one_answer(tmp_path):
    with pytest.raises(MubenchError, match="lr=.* and lr_factor=50 are two answers"):
        spec("salun", protocol="official", params={"lr_factor": 50})
    assert "lr_factor" not in registry.methods.get("salun").space("official")
    low, high, _ = registry.methods.get("salun").space("official")["lr"]
    assert low < registry.methods.get("salun").official["lr"] < high


@pytest.mark.parametrize(
    "options, complaint",
    [
        ({"max_seconds": float("inf")}, "max_seconds=inf"),
        ({"curriculum": "superloss", "curriculum_tau": float("nan")}, "curriculum_tau"),
        ({"seed": 10**23}, "seed=1000"),
        ({"params": ["lr"]}, "params=.'lr'.: it must be a dict"),
        ({"protocol": "offical"}, "protocol='offical'"),
        ({"max_examples": 0}, "max_examples=0"),
    ],
)
def test_what_no_run_can_be(options, complaint):
    with pytest.raises(MubenchError, match=complaint):
        spec(**options)


def test_a_tuned_result_says_the_command_that_repeats_it(tmp_path):
    tuned = make_spec(task="fashion", method="neggrad", params={"epochs": 2}, trials=3, limit=LIMIT)
    record = read(runner.run_spec(tuned, Store(tmp_path), progress=False))
    assert (
        "--trials 3" in record.command
        and make_spec(task="fashion", method="neggrad", params={"epochs": 2}, trials="3", limit=LIMIT).id == record.id
    )


def test_the_one_writer_of_command_lines():
    run = RunSpec(task="fashion", model="resnet", method="salun", params={"milestones": (1, 2)}, lora=12.5)
    assert (
        command(run)
        == "mubench run fashion salun --set 'milestones=[1, 2]' --model resnet --ratio 5 --seed 0 --lora 12.5"
    )
    assert command(run, seed=[0, 1], out="my results").endswith("--seed 0 1 --lora 12.5 --out 'my results'")
    assert (
        command({"task": "fashion", "method": "retrain", "model": "resnet"})
        == "mubench run fashion retrain --model resnet"
    )
    assert (
        command({"task": "my task.py:T", "model": "m", "seed": 1}, "original", train=True)
        == "mubench original 'my task.py:T' --model m --seed 1 --train"
    )
    assert command(run.model_copy(update={"split_file": "rows.txt"})).count("--ratio") == 0


def test_times_are_comparable_on_equal_machines_only(alone):
    here = alone.environment
    assert (
        here["device"] == "cpu"
        and here["machine"].endswith("cores")
        and here["memory_bytes"] > 2**30
        and here["calibration_seconds"] > 0
    )
    assert (
        alone.clock
        and alone.clock
        == alone.model_copy(update={"environment": {**here, "calibration_seconds": 9.0, "git_commit": "x"}}).clock
    )
    for name, other in (("machine", "another"), ("threads", 9), ("torch", "1.0"), ("processes", 2)):
        assert alone.clock != alone.model_copy(update={"environment": {**here, name: other}}).clock
    assert alone.model_copy(update={"migrated": 1}).clock is None
