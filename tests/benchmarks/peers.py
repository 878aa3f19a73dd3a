"""mubench beside what people use today, at equal work: the same model, rows, passes and batches on both sides.

    python tests/benchmarks/peers.py                      # the table, in 10 minutes on a free core
    python tests/benchmarks/peers.py --only scrub --rounds 9

The peers: MU-Bench's trainers and open-unlearning's on the Hugging Face `Trainer` (`_peer_trainers.py`), and the loops
of the methods' authors (`_peer_loops.py`). Where formulas are the same, the loss of the first step (SSD: what it leaves
of the weights) must be the same to 1e-5 before anything is timed.

Ratios are CPU seconds of the peer over those of mubench, above 1 where mubench is faster: the median over rounds that
alternate in one process on one thread, and the range. Evaluation ``none`` is the training: from a loaded model and ready
rows to the unlearned model, models and trainers being made off the clock. ``end`` is what follows too: both score the
same four sets, mubench by all its metrics, and write what they found. ``as published`` is the same of mubench beside all
that MU-Bench's trainers do: scores and a checkpoint after every epoch, metrics of 500 draws.
"""

import argparse
import contextlib
import copy
import dataclasses
import functools
import io
import statistics
import tempfile
import typing
import warnings

import _peer_loops as loops
import _peer_trainers as trainers
import torch
import transformers
from _paired import cpu_seconds, judged

from mubench.job import Job, task_of
from mubench.records.store import Store
from mubench.runner import carry_out
from mubench.spec import Budget, make_spec
from mubench.train.engine import Engine

EPOCHS = 3  # of MU-Bench's trainers: those of mubench's defaults
STEPS, PAIRED = 200, 16  # of open-unlearning's, and the examples of each set in a step
CLASSES = 10
EVALUATIONS = {"": "none", "end": "end", "published": "as published"}


# -- mubench -----------------------------------------------------------------------------------------------------------


def job(method, task="fashion", model="resnet", protocol="suite", max_steps=None, limit=None, **params):
    options = dict(protocol=protocol, max_steps=max_steps, limit=limit, params=params)
    return Job.of(make_spec(task=task, model=model, method=method, ratio=10, **options), task_of(task))


def ours(*arguments, evaluation="", **options):
    """Sets up a job; returns its training, or its whole run."""
    made = job(*arguments, **options)
    if not evaluation:
        return functools.partial(made.train, progress=False)
    return lambda: carry_out(made, Store(tempfile.mkdtemp()), progress=False)


def first_loss(*arguments, **options):
    """The loss of the first step, on the first examples of each set in their order, and the job."""
    made = job(*arguments, **options)
    engine = Engine(made.method, made.context, made.recipe, Budget(steps=1), shuffle=False, progress=False)
    return engine.run().losses[0], made


# -- the rows and models of both ---------------------------------------------------------------------------------------


@functools.cache
def rows(name):
    """All rows of a set of fashion as ready tensors: (inputs, labels)."""
    task = task_of("fashion")
    view = task.sets("resnet", task.split(10))[name]
    batch = view[torch.arange(len(view))]
    return batch["pixel_values"], batch["labels"]


def columns():
    """Set name → `Rows`, as trainers take them."""
    names = ("forget", "retain", "test", "transfer")
    return {n: trainers.Rows(pixel_values=rows(n)[0], labels=rows(n)[1]) for n in names}


@functools.cache
def texts():
    """The examples of people's D_f and D_r, each a prompt and its answer as tokens."""
    task = task_of("people")
    tokenizer, most, split = task.tokens("llama"), task.models["llama"].inputs, task.split(10)

    def example(row):
        prompt, answer = (
            tokenizer(form.format(**row), add_special_tokens=False)["input_ids"] for form in (task.prompt, task.answer)
        )
        prompt, answer = prompt[: most["prompt"]], [*answer[: most["answer"] - 1], tokenizer.eos_token_id]
        return {
            "input_ids": torch.tensor(prompt + answer),
            "labels": torch.tensor([-100] * len(prompt) + answer),
        }

    data = task.data["train"]
    return {name: [example(data[i]) for i in getattr(split, name)] for name in ("forget", "retain")}


@functools.cache
def loaded(task, model):
    return job("neggrad", task, model).context.student


def original(task="fashion", model="resnet"):
    return copy.deepcopy(loaded(task, model)).train()


# -- the peers ---------------------------------------------------------------------------------------------------------


def mu_bench(trainer, epochs=EPOCHS, evaluation=""):
    return trainer(original(), columns(), tempfile.mkdtemp(), epochs, evaluation).unlearn


def open_unlearning(trainer):
    pairs = trainers.Pairs(texts()["forget"], texts()["retain"])
    return trainer(original("people", "llama"), pairs, tempfile.mkdtemp(), STEPS, PAIRED).unlearn


def authors(loop, *arguments, **options):
    return functools.partial(loop, original(), *arguments, **options)


# -- what is compared --------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table.

    ours, theirs: set up, and return what is timed; with ``evaluation`` what follows the training too.
    asked: what is compared, see `EVALUATIONS` → the least ratio that is asked for, or None.
    check: () → two tensors, ours and theirs, that must be the same; None: the formulas differ.
    """

    ours: typing.Callable
    theirs: typing.Callable
    asked: dict
    check: typing.Callable | None = None


def suite(method, trainer, epochs=EPOCHS, check=None, **params):
    """A method beside a trainer of MU-Bench."""
    mine = functools.partial(ours, method, batch_size=128, epochs=epochs, **params)
    return Row(mine, functools.partial(mu_bench, trainer, epochs), {"": None, "end": 1.5, "published": None}, check)


def official(method, theirs, alone=1.0, check=None, **params):
    """A method by its authors' numbers beside their loop."""
    return Row(functools.partial(ours, method, protocol="official", **params), theirs, {"": alone}, check)


def language(method, trainer, **params):
    """A method beside a trainer of open-unlearning."""
    options = dict(task="people", model="llama", max_steps=STEPS, epochs=100, batch_size=PAIRED, epoch_length="forget")
    mine = functools.partial(ours, method, **options, **params)
    return Row(mine, functools.partial(open_unlearning, trainer), {"": 1.0}, same_likelihoods)


# -- the same formulas -------------------------------------------------------------------------------------------------


def first(name, n):
    return [column[:n] for column in rows(name)]


def same_neggrad():
    inputs, labels = first("forget", 128)
    trainer = trainers.NegGrad(original(), columns(), tempfile.mkdtemp(), 1)
    mine, _ = first_loss("neggrad", batch_size=128)
    return mine, trainer.loss(trainer.model.train(), {"pixel_values": inputs, "labels": labels})


def same_scrub():
    options = dict(protocol="official", epochs=1)
    mine = [first_loss("scrub", **options, msteps=passes)[0] for passes in (1, 0)]
    pairs = (("forget", 64, True), ("retain", 32, False))
    theirs = [loops.scrub_loss(original(), original().eval(), *first(on, n), apart)[0] for on, n, apart in pairs]
    return torch.tensor(mine), torch.stack(theirs)


def same_bad_t():
    mine, made = first_loss("bad_t", protocol="official", epochs=1)
    inputs, _ = first("forget", 256)
    return mine, loops.bad_t_loss(original(), original().eval(), made.context.incompetent, inputs, torch.ones(256))


def same_ssd():
    """What is left of the weights, 100 examples of each set being all there are."""
    made = job("ssd", protocol="official", batch=1, limit=100)
    made.train(progress=False)
    model, forget, retain = original(), first("forget", 100), first("retain", 100)
    loops.ssd(model, forget, [torch.cat(both) for both in zip(forget, retain, strict=True)], 1)
    return (*(torch.cat([p.flatten() for p in m.parameters()]) for m in (made.unlearned.model, model)),)


def same_likelihoods():
    """[B], of the first texts of D_f: GradDiff and NPO are made of these."""
    made = job("npo", task="people", model="llama")
    model, batch = original("people", "llama"), made.context.forget[torch.arange(PAIRED)]
    return made.task.forward(model, batch).total, trainers.likelihood(
        model, trainers.padded(texts()["forget"][:PAIRED])
    )


# -- the table ---------------------------------------------------------------------------------------------------------


def scrub(epochs, passes):
    return authors(loops.scrub, rows("forget"), rows("retain"), epochs, passes)


def bad_t(epochs):
    bad = task_of("fashion").build("resnet", 1, blank=True).eval()
    return authors(loops.bad_t, bad, rows("forget"), rows("retain"), epochs)


def ssd(size):
    everything = [torch.cat(both) for both in zip(rows("forget"), rows("retain"), strict=True)]
    return authors(loops.ssd, rows("forget"), everything, size)


ROWS = {
    "MU-Bench neggrad": suite("neggrad", trainers.NegGrad, check=same_neggrad),
    "MU-Bench random_label": suite("rand_label", trainers.RandomLabel),
    "MU-Bench bad_teaching": suite("bad_t", trainers.BadTeaching, retain_share=1 / 9),
    "MU-Bench scrub": suite("scrub", trainers.Scrub, 2, msteps=2),
    "MU-Bench salun": suite("salun", trainers.SalUn, schedule="union"),
    "open-unlearning GradDiff": language("neggrad_plus", trainers.GradDiff, alpha=0.5),
    "open-unlearning NPO": language("npo", trainers.NPO),
    "official SalUn": official(
        "salun", lambda: authors(loops.salun, rows("forget"), rows("retain"), CLASSES), epochs=1
    ),
    "official SCRUB": official("scrub", lambda: scrub(1, 1), check=same_scrub, epochs=1, msteps=1),
    "official SCRUB, 3 epochs": official("scrub", lambda: scrub(3, 2), 1.3, epochs=3, msteps=2),
    "official Bad-T": official("bad_t", lambda: bad_t(1), check=same_bad_t, epochs=1),
    "official Bad-T, 3 epochs": official("bad_t", lambda: bad_t(3), 1.3, epochs=3),
    "official SSD by 64": official("ssd", lambda: ssd(64), batch=64),
    "official SSD by one": official("ssd", lambda: ssd(1), check=same_ssd, batch=1),
}


def compare(row, evaluation, rounds):
    """The ratios of all rounds, and the table's cells."""
    options = {"evaluation": evaluation} if evaluation else {}
    sides = {"ours": functools.partial(row.ours, **options), "theirs": functools.partial(row.theirs, **options)}
    with contextlib.redirect_stdout(io.StringIO()):
        cpu_seconds(sides, 1)  # the first time more is imported
        seconds = cpu_seconds(sides, rounds)
    ratios = [theirs / mine for mine, theirs in zip(seconds["ours"], seconds["theirs"], strict=True)]
    spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    least = row.asked[evaluation]
    word = f"{judged(ratios, least)} {least}" if least else ""
    mine, theirs = (f"{statistics.median(seconds[side]):.2f}" for side in sides)
    return ratios, f"{EVALUATIONS[evaluation]} | {spread} | {word} | {mine} | {theirs}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="rows whose name has this in it")
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    transformers.utils.logging.disable_progress_bar()
    print("| against | evaluation | peer / mubench | asked for | CPU s of mubench | of the peer |")
    print("| --- | --- | --- | --- | --- | --- |")
    medians = []
    for name, row in ROWS.items():
        if asked.only.lower() not in name.lower():
            continue
        if row.check:
            mine, theirs = (torch.as_tensor(values, dtype=torch.float64).detach() for values in row.check())
            torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)
        for evaluation in row.asked:
            ratios, cells = compare(row, evaluation, asked.rounds)
            print(f"| {name} | {cells} |", flush=True)
            medians += [statistics.median(ratios)] if evaluation == "end" else []
    if medians:
        print(f"\nMedian of MU-Bench's trainers, evaluated at the end: {statistics.median(medians):.2f}; asked for: 2")


if __name__ == "__main__":
    main()
