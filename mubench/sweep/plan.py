"""What a run needs of a GPU, for people: a table, and the command lines with which it fits."""

from dataclasses import replace

from mubench import spec
from mubench.errors import MubenchError
from mubench.registry import load_task
from mubench.sweep.memory import FILLED, GIB, RANK, Footprint, Setup, footprint, need, teachers
from mubench.train.lora import Unreachable

WEIGHTS = {"float32": "float32", "mixed": "bf16, mixed", "bf16": "bf16, pure"}
HEADS = ["GiB", "weights", "gradients", "optimiser", "mask", "teachers", "working", "peak", "least"]
PARTS = 6  # columns between the first and ``peak``
TOO_MUCH = "more than these settings can save: LoRA, or larger GPUs"


def fitting(model, method, recipe, gib, lora=False):
    """The first `Setup` with which a run fits, the simplest first, or None.

    model: its `Footprint`.
    method, recipe: of the run.
    gib: size of each GPU, of which `FILLED` is used.
    lora: whether adapters are trained instead of the weights.
    """
    pieces = recipe.batch_size
    one = [Setup("float32"), Setup(), Setup(recompute=True), Setup(recompute=True, accumulate=pieces)]
    many = [Setup(recompute=True, gpus=k, accumulate=max(1, pieces // k)) for k in (2, 4, 8)]
    for setup in (*one, *many):
        setup = replace(setup, lora=lora)
        if sum(need(model, method, recipe, setup).values()) <= FILLED * gib * GIB:
            return setup
    return None


def layout_command(fields, setup):
    """The command line of a run laid out by a `Setup`; ``fields``: some of its spec."""
    params = {"recompute": "true"} if setup.recompute else {}
    params |= {"accumulate": setup.accumulate} if setup.accumulate > 1 else {}
    fields = fields | {"params": params, "precision": "bf16" if setup.weights == "mixed" else "no"}
    if setup.gpus == 1:
        return spec.command(fields)
    return f"accelerate launch --multi_gpu --num_processes {setup.gpus} -m {spec.command(fields, shard=True)}"


def peak(task, name, methods, adapt=None):
    """Bytes that a run with the most demanding of some methods holds in float32, or None where that is not known.

    task, name: a task, or what it is called, and its model.
    adapt: ``share`` or ``rank`` of LoRA (None: without).
    """
    task = load_task(task)
    recipes = {method: method.recipe(task.model_recipe(name)) for method in methods}
    batch_size = max(recipe.batch_size for recipe in recipes.values())
    try:
        model = footprint(task, name, batch_size, methods, adapt)
    except MubenchError:
        return None
    if not model.tensors:
        return None
    return max(sum(need(model, m, r, Setup("float32", bool(adapt))).values()) for m, r in recipes.items())


def exhausted(run, why):
    """The reason of a run (a `RunSpec`) that failed, perhaps for want of memory: with what it needs by the estimate."""
    try:
        estimate = peak(run.task, run.model, [run.make_method()], run.adapt)
    except (MemoryError, RuntimeError):  # still too little even for the estimate
        estimate = None
    alone = f" The model alone needs about {estimate / GIB:.2g} GiB by the estimate" if estimate else ""
    return f"{why} (out of memory?{alone})"


def memory_table(task, name, methods, sizes=(24, 40, 80), adapt=None):
    """What a run with the most demanding of some methods holds on a GPU, and how it fits, as text.

    In the table ``least`` is with activations recomputed and one example at a time.

    task, name: a task, or what it is called, and its model.
    methods: of which the most demanding is shown.
    sizes: of GPUs, in GiB.
    adapt: ``share`` or ``rank`` of LoRA, if the run has it.
    """
    reference, task = task if isinstance(task, str) else task.name, load_task(task)
    bare = lambda method: sum(need(Footprint(1), method, method.recipe(task.model_recipe(name)), Setup()).values())
    method = max(methods, key=bare)
    recipe = method.recipe(task.model_recipe(name))
    try:
        model = footprint(task, name, recipe.batch_size, [method], adapt)
    except Unreachable:
        raise
    except MubenchError:
        return (
            f"{task.name} {name}: not estimated, its configuration is not here: `mubench fetch {reference} --model"
            f" {name}` brings it"
        )
    beside = [*sorted(teachers(method)), *["a mask"] * method.masks]
    lines = [
        f"{task.name} {name}: {model.parameters:,} parameters; {method.name}"
        f"{' (the most demanding)' * (len(methods) > 1)}: {recipe.optimizer}, batches of {recipe.batch_size}"
        + (f", beside the student {' and '.join(beside)}" if beside else ""),
        _table(model, method, recipe, adapt),
    ]
    if model.why:
        lines.append(f"activations not estimated: {model.why}")
    fields = {"task": reference, "method": method.name, "model": name}
    fields |= {{"share": "lora", "rank": "lora_rank"}[option]: f"{v:g}" for option, v in (adapt or {}).items()}
    return "\n".join(lines + _fits(model, method, recipe, sizes, fields, bool(adapt)))


def _table(model, method, recipe, adapt):
    """What a run holds, by part, in all precisions, without and with LoRA."""
    from tabulate import tabulate

    asked = f"{adapt['share']:g} %" if adapt and "share" in adapt else (adapt or {}).get("rank", RANK)
    rows = []
    for lora in (False, True):
        for weights, label in WEIGHTS.items():
            parts = need(model, method, recipe, Setup(weights, lora))
            least = need(model, method, recipe, Setup(weights, lora, recipe.batch_size, recompute=True))
            unknown = [None] * (PARTS - len(parts))
            cells = [*parts.values(), *unknown, sum(parts.values()), sum(least.values())]
            rows.append([label + f", LoRA {asked}" * lora, *(c if c is None else c / GIB for c in cells)])
    return tabulate(rows, HEADS, floatfmt=".3g", missingval="?")


def _fits(model, method, recipe, sizes, fields, lora):
    """For each size of GPU the command line with which the run fits; sizes with the same one share a line."""
    fits = {}
    for gib in sizes if model.tensors else ():
        setup = fitting(model, method, recipe, gib, lora)
        fits.setdefault(layout_command(fields, setup) + _tried(setup) if setup else TOO_MUCH, []).append(f"{gib:g}")
    return [f"{', '.join(gibs)} GiB: {words}" for words, gibs in fits.items()]


def _tried(setup):
    """How far a layout was tried, where that is less than on a GPU."""
    return " (tested on CPU processes, on no GPUs yet)" if setup.gpus > 1 else ""
