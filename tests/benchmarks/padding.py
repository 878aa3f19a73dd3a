"""What padding costs the text tasks, in steps and in evaluation.

    python tests/benchmarks/padding.py [rounds]

Before: batches in the order of their set, prompts and answers of causal models padded apart, the head asked about every
position. Now: as the tasks do it. Positions are those that a model reads, over those that are text; seconds are of the
CPU, both sides in turn, the median of before/now and its range. Steps are forward and backward passes of the plain loss
over random batches of the recipe's size. bio_fact is its sample: texts and models are made up.
"""

import copy
import statistics
import sys
import tempfile
import time

import torch

from mubench.measure.predict import predict, shown
from mubench.registry import load_task
from mubench.train.loader import by_length

TASKS = {
    "people": ("llama", "gpt2"),
    "messenger": ("t5",),
    "bio_fact": ("smollm2_360m",),
    "movie_snippets": ("bert", "distilbert"),
    "drug_interactions": ("bert", "distilbert"),
}
STEPS = 16


class Before:
    """A task with its texts in order."""

    evaluation_batch = 256

    def lengths(self, columns):
        return None


class Apart(Before):
    """A task of generation whose prompts and answers are padded apart."""

    def _with_room(self, batch):
        return batch

    def forward(self, model, batch, features=False):
        from mubench.models.behaviour import Output

        labels, config = batch["labels"], model.config
        answer, counts = labels.clamp(min=0), labels != -100
        if config.is_encoder_decoder:
            begin = torch.full_like(answer[:, :1], config.decoder_start_token_id)
            inputs = dict(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
            logits = model(**inputs, decoder_input_ids=torch.cat([begin, answer[:, :-1]], 1)).logits
        else:
            seen = torch.cat([batch["attention_mask"], counts[:, :-1].long()], 1)
            ids = torch.cat([batch["input_ids"], answer[:, :-1]], 1)
            places = (seen.cumsum(1) - 1).clamp(min=0)
            logits = model(ids, attention_mask=seen, position_ids=places, use_cache=False).logits
            logits = logits[:, -labels.shape[1] :]
        losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), labels, reduction="none")
        return Output((losses * counts).sum(1) / counts.sum(1), logits, counts)


def earlier(task):
    """The task as it would be with texts in order, apart."""
    made = copy.copy(task)
    kind = Apart if task.modality == "generation" else Before
    made.__class__ = type("Earlier", (kind, type(task)), {})
    return made


def positions(task, model, view, chunks):
    """How many positions are read of some batches of a view."""
    causal = task.modality == "generation" and not task.model_class(model).config_class.is_encoder_decoder
    total = 0
    for batch in (view[chunk] for chunk in chunks):
        read = batch["attention_mask"].shape[1]
        if batch["labels"].ndim == 2 and not causal:
            read += batch["labels"].shape[1]
        elif causal and isinstance(task, Apart):
            read += batch["labels"].shape[1] - 1
        total += len(batch["index"]) * read
    return total


def step(task, network, view, chunks):
    for chunk in chunks:
        task.forward(network, view[chunk]).loss.mean().backward()
    network.zero_grad()


def seconds(function):
    start = time.process_time()
    function()
    return time.process_time() - start


def compare(sides, rounds):
    """Median, least and most of before/now, and the median seconds of both."""
    found = []
    for number in range(rounds + 1):  # the first warms up
        took = {name: seconds(sides[name]) for name in (sorted(sides) if number % 2 else sorted(sides)[::-1])}
        found.append(took)
    ratios = [took["before"] / took["now"] for took in found[1:]]
    middle = {name: statistics.median(took[name] for took in found[1:]) for name in sides}
    verdict = "" if min(ratios) > 1 or max(ratios) < 1 else ", not resolved"
    return (
        f"{middle['before']:.2f} → {middle['now']:.2f} CPU s,"
        f" {statistics.median(ratios):.2f} × ({min(ratios):.2f} to {max(ratios):.2f}){verdict}"
    )


def measure(task, model, rounds):
    now, before, network = task, earlier(task), task.build(model)
    size, generator = task.model_recipe(model).batch_size, torch.Generator().manual_seed(0)
    sets, views, tasks = {}, {}, {"now": now, "before": before}
    for name, one in tasks.items():
        sets[name] = shown(one, one.sets(model, one.split(5)))
        views[name] = one.prepared(model, "train")
    text = int(views["now"].lengths.sum()) - len(views["now"]) * (
        task.modality == "generation" and not network.config.is_encoder_decoder
    )
    random = torch.randperm(len(views["now"]), generator=generator).split(size)
    orders = {"now": by_length(views["now"]), "before": torch.arange(len(views["now"]))}
    for what, chunks in (
        ("steps", dict.fromkeys(tasks, random)),
        ("evaluation", {name: order.split(tasks[name].evaluation_batch) for name, order in orders.items()}),
    ):
        read = {name: positions(one, model, views[name], chunks[name]) / text for name, one in tasks.items()}
        if what == "steps":
            run = lambda name: lambda: step(tasks[name], network, views[name], random[:STEPS])
        else:
            run = lambda name: lambda: predict(tasks[name], network, sets[name])
        time_taken = compare({name: run(name) for name in tasks}, rounds)
        print(
            f"{task.name}/{model} {what}: {read['before']:.2f} → {read['now']:.2f} positions a token; {time_taken}",
            flush=True,
        )


def main():
    torch.set_num_threads(1)
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    with tempfile.TemporaryDirectory() as folder:
        for name, models in TASKS.items():
            task = load_task(name)
            if task.tier != "mini":
                task = task.sample(folder)
            for model in models:
                measure(task, model, rounds)


if __name__ == "__main__":
    main()
