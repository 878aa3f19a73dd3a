"""What a run needs of a GPU, for people: a table, and the command lines with which it fits."""

from dataclasses import replace

from mubench import spec
from mubench.errors import MubenchError
from mubench.train.lora import Unreachable
from mubench.sweep.memory import FILLED, GIB, RANK, Model, Setup, facts, masked, need, teachers
from mubench.registry import load_task


def fitting(model, method, recipe, gib, lora=False):
    """The first `Setup` with which a run stays within the filled part of GPUs of so many GiB, the simplest first, or
    None.
    """
    pieces = recipe.batch_size
    one = [Setup("float32"), Setup(), Setup(recompute=True), Setup(recompute=True, accumulate=pieces)]
    many = [Setup(recompute=True, gpus=k, accumulate=max(1, pieces // k)) for k in (2, 4, 8)]
    return next(
        (
            s
            for s in (replace(s, lora=lora) for s in (*one, *many, replace(one[-1], offload=True)))
            if sum(need(model, method, recipe, s).values()) <= FILLED * gib * GIB
        ),
        None,
    )


def command(run, setup):
    """The command line of a run laid out so; run: some fields of its spec."""
    changes = {"recompute": "true"} if setup.recompute else {}
    changes |= {"accumulate": setup.accumulate} if setup.accumulate > 1 else {}
    words = spec.command(run | {"params": changes, "precision": "bf16" if setup.weights == "mixed" else "no"})
    if setup.offload:
        return (
            "accelerate launch --use_deepspeed --zero_stage 3 --offload_param_device cpu --offload_optimizer_device"
            f" cpu --mixed_precision bf16 -m {words}"
        )
    return (
        f"accelerate launch --num_processes {setup.gpus} --use_fsdp --fsdp_version 2 -m {words}"
        if setup.gpus > 1
        else words
    )


def sharded(setup):
    """Whether no GPU holds the whole model."""
    return setup.gpus > 1 or setup.offload


def peak(reference, name, methods, adapt=None):
    """Bytes that a run with the most demanding of some methods holds in float32, or None where that is not known."""
    task = load_task(reference)
    recipes = {method: method.recipe(task.model_recipe(name)) for method in methods}
    try:
        model = facts(
            task,
            name,
            max(recipe.batch_size for recipe in recipes.values()),
            set().union(*(m.needs for m in methods)),
            adapt,
        )
    except MubenchError:
        return None
    return (
        max(sum(need(model, m, r, Setup("float32", bool(adapt))).values()) for m, r in recipes.items())
        if model.tensors
        else None
    )


def exhausted(run, why):
    """The reason of a run (a `RunSpec`) that failed, perhaps for want of memory: with what it needs by the estimate."""
    try:
        known = peak(run.task, run.model, [run.make_method()], run.adapt)
    except (MemoryError, RuntimeError):  # still too little even for the estimate
        known = None
    return (
        f"{why} (out of"
        f" memory?{f' The model alone needs about {known / GIB:.2g} GiB by the estimate' if known else ''})"
    )


def report(reference, name, methods, sizes=(24, 40, 80), adapt=None):
    """What a run with the most demanding of some methods holds on a GPU, ``least`` being with activations recomputed
    and one example at a time, and how it fits GPUs of some ``sizes`` (GiB); adapt: ``share`` or ``rank`` of LoRA, if
    the run has it."""
    from tabulate import tabulate

    task = load_task(reference)
    title, reference = f"{task.name} {name}", reference if isinstance(reference, str) else task.name
    static = lambda method: sum(need(Model(1), method, method.recipe(task.model_recipe(name)), Setup()).values())
    method = max(methods, key=static)
    recipe = method.recipe(task.model_recipe(name))
    try:
        model = facts(task, name, recipe.batch_size, method.needs, adapt)
    except Unreachable:
        raise
    except MubenchError:
        return (
            f"{title}: not estimated, its configuration is not here: `mubench fetch {reference} --model {name}`"
            " brings it"
        )
    said = f"{adapt['share']:g} %" if adapt and "share" in adapt else (adapt or {}).get("rank", RANK)
    rows = []
    for lora in (False, True):
        for weights, label in (("float32", "float32"), ("mixed", "bf16, mixed"), ("bf16", "bf16, pure")):
            parts = need(model, method, recipe, Setup(weights, lora))
            less = need(model, method, recipe, Setup(weights, lora, recipe.batch_size, recompute=True))
            cells = [*parts.values(), *[None] * (6 - len(parts)), sum(parts.values()), sum(less.values())]
            rows.append([label + f", LoRA {said}" * lora, *(c if c is None else c / GIB for c in cells)])
    heads = ["GiB", "weights", "gradients", "optimiser", "mask", "teachers", "working", "peak", "least"]
    beside = [*sorted(teachers(method)), *["a mask"] * masked(method)]
    beside = f", beside the student {' and '.join(beside)}" if beside else ""
    lines = [
        (
            f"{title}: {model.parameters:,} parameters; {method.name}{' (the most demanding)' * (len(methods) > 1)}:"
            f" {recipe.optimizer}, batches of {recipe.batch_size}{beside}"
        ),
        tabulate(rows, heads, floatfmt=".3g", missingval="?"),
    ]
    if model.why:
        lines.append(f"activations not estimated: {model.why}")
    run = {"task": reference, "method": method.name, "model": name}
    run |= {{"share": "lora", "rank": "lora_rank"}[n]: f"{v:g}" for n, v in (adapt or {}).items()}
    fits = {}
    for gib in sizes if model.tensors else ():
        setup = fitting(model, method, recipe, gib, bool(adapt))
        words = command(run, setup) if setup else "more than these settings can save: LoRA, or larger GPUs"
        said = (
            ""
            if not setup
            else (
                " (untried)"
                if setup.offload
                else " (tested on CPU processes, on no GPUs yet)"
                if sharded(setup)
                else ""
            )
        )
        fits.setdefault(words + said, []).append(f"{gib:g}")
    lines += [f"{', '.join(gibs)} GiB: {words}" for words, gibs in fits.items()]
    return "\n".join(lines)
