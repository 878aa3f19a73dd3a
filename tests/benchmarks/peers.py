"""mubench beside what people use today, at equal work: the same model, rows, passes and batches on both sides.

    python tests/benchmarks/peers.py                      # the table, in 10 minutes on a free core
    python tests/benchmarks/peers.py --only scrub --rounds 9

The peers: MU-Bench's trainers and open-unlearning's on the Hugging Face `Trainer` (`_peer_trainers.py`), and the loops
of the methods' authors (`_peer_loops.py`). Where formulas are the same, the loss of the first step (SSD: what it leaves
of the weights) must be the same to 1e-5 before anything is timed.

Ratios are CPU seconds of the peer over those of mubench, above 1 where mubench is faster: the median over rounds that
alternate in one process on one thread, and the range. Evaluation ``none`` is the training: from a loaded model and
ready rows to the unlearned model, models and trainers being made off the clock. ``end`` is what follows too: both score
the same four sets, mubench by all its metrics, and write what they found. ``as published`` is the same of mubench
beside all that MU-Bench's trainers do: scores and a checkpoint after every epoch, metrics of 500 draws.
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
EVALUATIONS = {  # what is compared → side and number of its part, of mubench and of the peer
    "none": (("ours", 0), ("theirs", 0)),
    "end": (("ours", 1), ("theirs", 1)),
    "as published": (("ours", 1), ("published", 0)),
}


# -- mubench -----------------------------------------------------------------------------------------------------------


def job(method, task="fashion", model="resnet", protocol="suite", max_steps=None, limit=None, **params):
    options = dict(protocol=protocol, max_steps=max_steps, limit=limit, params=params)
    return Job.of(make_spec(task=task, model=model, method=method, ratio=10, **options), task_of(task))


def ours(*arguments, **options):
    """Sets up a job; returns its training, and what follows in a run."""
    made = job(*arguments, **options)
    followed = lambda: carry_out(made, Store(tempfile.mkdtemp()), costs=made.unlearned.costs.asdict())
    return functools.partial(made.train, progress=False), followed


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


def mu_bench(trainer, epochs, published=False):
    made = trainer(original(), columns(), tempfile.mkdtemp(), epochs, published)
    if published:
        return (lambda: (made.unlearn(), made.final_scores()),)
    return made.unlearn, made.final_scores


def open_unlearning(trainer):
    pairs = trainers.Pairs(texts()["forget"], texts()["retain"])
    return (trainer(original("people", "llama"), pairs, tempfile.mkdtemp(), STEPS, PAIRED).unlearn,)


def authors(loop, *arguments):
    return (functools.partial(loop, original(), *arguments),)


# -- what is compared --------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Row:
    """One peer beside mubench.

    sides: ``ours``, ``theirs`` and, of MU-Bench's trainers, ``published`` → sets up, and returns what is timed.
    asked: an evaluation (`EVALUATIONS`) that is compared → the least ratio that is asked for, or None.
    check: () → two tensors, ours and theirs, that must be the same; None: the formulas differ.
    """

    sides: dict
    asked: dict
    check: typing.Callable | None = None


def suite(method, trainer, epochs=EPOCHS, check=None, **params):
    """A method beside a trainer of MU-Bench."""
    theirs = functools.partial(mu_bench, trainer, epochs)
    sides = {
        "ours": functools.partial(ours, method, batch_size=128, epochs=epochs, **params),
        "theirs": theirs,
        "published": functools.partial(theirs, published=True),
    }
    return Row(sides, {"none": None, "end": None, "as published": 1.5}, check)


def official(method, theirs, least=1.0, check=None, **params):
    """A method by its authors' numbers beside their loop."""
    mine = lambda: ours(method, protocol="official", **params)[:1]
    return Row({"ours": mine, "theirs": theirs}, {"none": least}, check)


def language(method, trainer, **params):
    """A method beside a trainer of open-unlearning."""
    options = dict(task="people", model="llama", max_steps=STEPS, epochs=100, batch_size=PAIRED, epoch_length="forget")
    mine = lambda: ours(method, **options, **params)[:1]
    theirs = functools.partial(open_unlearning, trainer)
    return Row({"ours": mine, "theirs": theirs}, {"none": 1.0}, same_likelihoods)


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
    """[B], of the first texts of D_f: GradDiff and NPO are made of these.

    In float64: in float32 the library's cross-entropy over transposed logits, as the trainers use, is off by 5e-5.
    """
    made = job("npo", task="people", model="llama")
    model, batch = original("people", "llama").double(), made.context.forget[torch.arange(PAIRED)]
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


def check(row):
    """Raise where the same formulas do not give the same."""
    if row.check:
        mine, theirs = (torch.as_tensor(values, dtype=torch.float64).detach() for values in row.check())
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)


def compare(row, rounds):
    """Evaluation → the ratios of all rounds, and cells of the table."""
    with contextlib.redirect_stdout(io.StringIO()):
        seconds = cpu_seconds(row.sides, rounds)
    found = {}
    for evaluation, least in row.asked.items():
        mine, theirs = ([until[part] for until in seconds[side]] for side, part in EVALUATIONS[evaluation])
        ratios = [b / a for a, b in zip(mine, theirs, strict=True)]
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        word = f"{judged(ratios, least)} {least}" if least else ""
        medians = " | ".join(f"{statistics.median(values):.2f}" for values in (mine, theirs))
        found[evaluation] = ratios, f"{evaluation} | {spread} | {word} | {medians}"
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="rows whose name has this in it")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    transformers.utils.logging.disable_progress_bar()
    with contextlib.redirect_stdout(io.StringIO()):
        cpu_seconds(ROWS["MU-Bench neggrad"].sides, 1)  # all is imported
    print("| against | evaluation | peer / mubench | asked for | CPU s of mubench | of the peer |")
    print("| --- | --- | --- | --- | --- | --- |")
    medians, missed = [], False
    for name, row in ROWS.items():
        if asked.only.lower() in name.lower():
            check(row)
            for evaluation, (ratios, cells) in compare(row, asked.rounds).items():
                print(f"| {name} | {cells} |", flush=True)
                medians += [statistics.median(ratios)] if evaluation == "as published" else []
                missed |= judged(ratios, row.asked[evaluation] or 0) == "missed"
    if len(medians) > 1:
        print(f"\nMedian of MU-Bench's trainers as published: {statistics.median(medians):.2f}; asked for: 2")
    return missed or len(medians) > 1 and statistics.median(medians) < 2


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as tempfile.tempdir:  # what both sides write is gone afterwards
        raise SystemExit(main())
