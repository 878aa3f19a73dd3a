"""A small method for each hook and declaration of the contract, on a small problem. Started on several processes, it
writes the weights that each gives.

    torchrun --nproc-per-node 2 tests/hooks.py FILE
"""

import sys

import torch
from safetensors.torch import save_file

from mubench.api import unlearn
from mubench.errors import MubenchError
from mubench.methods.base import Method, Term
from mubench.models.wrappers import Wrapper

FORGET, RETAIN = Term("forget", "loss", "true", weight=-0.3), Term("retain", "loss", "true")


class Joint(Method):
    """Both sets in each step, and no hook."""

    schedule, terms, optimizer, lr, clip, epochs = "joint", (FORGET, RETAIN), "sgd", 0.1, 0.0, 2


class Trainable(Joint):
    """`trainable`: the head alone."""

    def trainable(self, student, head):
        return [student.get_submodule(head)]


class Prepare(Joint):
    """`prepare`: a mask of the larger half of each parameter's saliencies, and half of D_r."""

    masks = True

    def prepare(self, context):
        context.mask({name: grad >= grad.median() for name, grad in context.saliency("forget").items()})
        context.replace(retain=context.sample(context.retain, 0.5))


class Penalty(Joint):
    """`penalty`: an l1 norm."""

    def penalty(self, context):
        return 1e-3 * sum(p.abs().sum() for p in context.trainable.values())


class Select(Joint):
    """`select`: every other example of D_f."""

    def select(self, context):
        return range(0, len(context.forget), 2)


class BeforeStep(Joint):
    """`before_step`: gradients are divided by the number of examples of D_f."""

    def before_step(self, context, seen):
        for p in context.trainable.values():
            p.grad /= seen["forget"]


class Combine(Joint):
    """`combine`: what of D_f's gradient is against D_r's is left out (PCGrad)."""

    def combine(self, context, gradients):
        forget, retain = gradients["forget"], gradients["retain"]
        against = sum((forget[name] * retain[name]).sum() for name in retain).clamp(max=0)
        square = sum(grad.square().sum() for grad in retain.values())
        return {name: forget[name] + (1 - against / square) * retain[name] for name in retain}


class Perturb(Joint):
    """`perturb`: a step of length ρ along D_f's gradient (SAM)."""

    def perturb(self, context, gradients):
        found = gradients()
        norm = sum(grad.square().sum() for grad in found.values()).sqrt()
        return {name: 0.05 * grad / norm for name, grad in found.items()}


class AfterEpoch(Joint):
    """`after_epoch`: one is enough."""

    def after_epoch(self, context):
        return True


class Finish(Joint):
    """`finish`: half of the way back."""

    prunes = False

    def prepare(self, context):
        self.start = context.snapshot()

    def finish(self, context):
        context.rescale(0.5, self.start)


class Mean(Wrapper):
    """The mean of two networks' logits."""

    parts = ("original", "student")

    def forward(self, x):
        return (self.original(x) + self.student(x)) / 2


class Wrap(Joint):
    """`wrap`: the student and the original, half each."""

    def wrap(self, context):
        return Mean(original=context.original, student=context.student)


class EpochLength(Joint):
    """``epoch_length``: with the shorter set."""

    epoch_length = "shorter"


class FullBatch(Joint):
    """``full_batch`` and ``train_mode``: one step an epoch, without dropout."""

    schedule, terms, full_batch, train_mode = "forget_only", (FORGET,), True, False


class Layer(Joint):
    """``layer``: the states of an inner layer are held on D_r, and leave where they were on D_f."""

    terms = (
        Term("forget", "rep", "original", weight=-0.3, layer=0),
        Term("retain", "rep", "original", layer="body.1"),
        RETAIN,
    )


class Batchwise(Joint):
    """``batchwise``: the mean of a batch counts as much as its largest loss."""

    @property
    def terms(self):
        return Term("forget", "loss", "true", weight=-0.3, how=self.largest, batchwise=True), RETAIN

    def largest(self, context, batch, student, teacher):
        return student.loss.logsumexp(0).expand(len(student.loss))


METHODS = {m.__name__: m for m in Joint.__subclasses__()}
CASES = {"plain": {}, "lora": {"lora_rank": 2}}


class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.body = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Linear(8, 8))
            self.classifier = torch.nn.Linear(8, 4)
        self.double()

    def forward(self, x):
        return self.classifier(self.body(x).tanh())


def examples(n, seed):
    x = torch.randn(n, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return [{"x": row, "labels": int(row[:4].argmax())} for row in x]


def unlearned(method, **options):
    """Name → weight of the student after a method has unlearned the problem, and its costs."""
    sets = examples(10, 0), examples(21, 1)
    done = unlearn(
        Network(), *sets, METHODS[method](**options.pop("params", {})), head="classifier", progress=False, **options
    )
    return getattr(done.model, "student", done.model).state_dict(), done.costs


def sizes(**params):
    """Batches of 8: of D_r the last has 5 examples, of D_f the last has 2."""
    return {"params": {"batch_size": 8, **params}}


if __name__ == "__main__":
    found, refused = {}, {}
    for name in METHODS:
        for case, options in CASES.items():
            try:
                weights, costs = unlearned(name, **sizes(), **options)
                found |= {f"{name}/{case}/{key}": value for key, value in weights.items()}
                found[f"{name}/{case}/costs"] = torch.tensor([costs.examples, costs.steps, costs.flops, *costs.losses])
            except MubenchError as error:
                refused[f"{name}/{case}"] = str(error)
    if torch.distributed.get_rank() == 0:
        save_file(found, sys.argv[1], metadata=refused)
