"""The Python side for one's own models and checkpoints; `mubench.run` is in `mubench.runner`."""

import copy
import re
from dataclasses import dataclass

from mubench import registry
from mubench.models import networks
from mubench.models.behaviour import Custom
from mubench.train.costs import Costs
from mubench.errors import MubenchError
from mubench.examples import View, Wrapped
from mubench.job import Job
from mubench.train.recipe import Recipe
from mubench.registry import load_task
from mubench.records.result import Store
from mubench.runner import carry_out
from mubench.spec import Options, RunSpec, command
from mubench.splits import ratio_name


@dataclass
class Unlearned:
    """What `unlearn` gives back: the unlearned ``model`` (on its device, in eval mode) and the `Costs`."""

    model: object
    costs: Costs


def unlearn(
    model,
    forget,
    retain,
    method="salun",
    *,
    collate=None,
    loss=None,
    fresh=None,
    head=None,
    num_labels=None,
    validation=None,
    inplace=False,
    progress=True,
    **options,
):
    """Make a model of one's own forget.

    model: a ``torch.nn.Module`` called as ``model(**batch)`` without the labels, giving logits [B, C] or an object with
        ``.logits`` (any `transformers` classifier); or anything, if ``loss`` is given.
    forget, retain: map-style data sets of dicts (Hugging Face data sets, ``torch`` data sets, lists), items ``{input:
        …, "labels" or "label": …}``. Disjoint.
    collate: list of items → dict of tensors with first dimension B (default: ``torch``'s).
    loss: ``loss(model, batch)`` → per-example losses [B], or (losses [B], logits [B, C]); default cross-entropy.
    head: name of the submodule whose input is the representation of an example, for methods that measure it
    (``classifier``).
    fresh: () → a new, untrained model, for methods that need one (default for `transformers` models: their
    configuration).
    validation: more examples, held out from training, for methods that measure a threshold on such.
    method: a registry name, ``path/to/file.py:Class`` or a `Method`. inplace: change ``model`` itself.
    options: the fields of `Options` (seed, protocol, precision, lora, lora_rank, curriculum, max_steps …), and
    hyperparameters of the method, such
        as ``lr`` (default: its ``lr_factor`` × 1e-3), ``epochs`` and ``batch_size`` (32). LoRA adapters are merged at
        the end.

    The same seed on one process gives the same bits. Returns an `Unlearned`. Raises `MubenchError` for an empty forget
    set, a method that needs what the model does not give, an unknown hyperparameter, or a loss that becomes NaN or
    infinite.
    """
    asked = Options.checked(**{name: options.pop(name) for name in [*options] if name in Options.model_fields})
    if isinstance(method, registry.methods.base) and (options or asked.protocol != "suite"):
        raise MubenchError(
            f"{method.name} is given with its hyperparameters: set {', '.join(options) or 'the protocol'} where you"
            " make it, or pass its name"
        )
    cls = method if isinstance(method, registry.methods.base) else registry.methods.get(method)
    chosen = registry.load_method(method, **cls.overrides(asked.protocol) | options)
    wrap = lambda d: d if d is None or isinstance(d, View) else Wrapped(d, collate)
    sets = {
        name: wrap(d)
        for name, d in (("forget", forget), ("retain", retain), ("validation", validation))
        if d is not None
    }
    for name, view in sets.items():
        if not len(view):
            raise MubenchError(f"the {name} set is empty: give at least one example")
    behaviour = Custom(loss, num_labels, head)
    behaviour.probe(model, sets["forget"])
    if missing := chosen.needs - behaviour.provides:
        raise MubenchError(
            f"{chosen.name} needs {', '.join(sorted(missing))}, which this model and loss do not give: let loss return"
            " (losses, logits) and batches hold 'labels', and name the head, head='classifier', for representations"
            " (rep)"
        )
    asked.fits(chosen, behaviour.num_labels)
    if fresh is None:

        def fresh():
            if not hasattr(model, "config"):
                raise MubenchError(
                    f"{chosen.name} needs an untrained model: pass fresh=, a function without arguments that builds one"
                )
            return type(model)(model.config)

    job = Job.make(
        behaviour,
        chosen,
        asked,
        sets,
        model if inplace else copy.deepcopy(model),
        fresh,
        Recipe(lr=1e-3, epochs=10, batch_size=32),
    )
    costs = job.train(progress)
    return Unlearned(job.context.student.eval(), costs)


def evaluate(
    task,
    checkpoint,
    *,
    model=None,
    ratio=None,
    split_file=None,
    seed=0,
    limit=None,
    name=None,
    out=None,
    seconds=None,
    paper="",
    save_model=False,
):
    """Measure weights that any code has unlearned: name → value of every metric that applies.

    task: a registry name; checkpoint: a folder in safetensors (or a hub id), or a ``torch.nn.Module`` of the task's
    class;
    model: which of the task's models it is (default: the first); ratio or split_file: what was to be forgotten
    (default: `RunSpec`'s);
    seed: of the original they come from and of the untrained model ZRF compares with: which of several runs of that
    code this is. Scores
    are fractions. name, out: what to call that code, and a folder of results to put record and predictions into, as a
    run does; with
    seconds: what unlearning took on this machine (None: not known); paper: where the code is described; save_model:
    keep the weights too. Raises `MubenchError` where the checkpoint cannot be read or does not fit the task.
    """
    from mubench.models import originals

    _nameable(name, out, seconds)
    reference, task = task if isinstance(task, str) else task.name, load_task(task)
    model, loaded = task.model(model), isinstance(checkpoint, str) or hasattr(checkpoint, "parts")
    network = originals.load(task, model, checkpoint)[0] if loaded else checkpoint
    rows = (
        {"split_file": str(split_file)}
        if split_file
        else {"ratio": ratio_name(RunSpec.model_fields["ratio"].default if ratio is None else ratio)}
    )
    spec = RunSpec.checked(
        task=reference,
        model=model,
        method=f"{name}@{networks.weights_hash(network)[:12]}",
        seed=seed,
        limit=limit,
        **rows,
    )
    costs = {
        "unlearning_seconds": seconds,
        **dict.fromkeys(("cpu_seconds", "steps", "examples", "flops", "peak_memory_bytes")),
        "stopped_by": "epochs",
        "losses": [],
        "validation": [],
    }
    said = spec.model_dump() | {"method": str(checkpoint) if loaded else "CHECKPOINT"}
    result = carry_out(
        Job.of(spec, task, network),
        out and Store(out),
        save_model,
        costs=costs,
        method={"name": str(name), "paper": paper},
        command=command(said, "evaluate", name=name, out=out, seconds=seconds),
    )
    return result.metrics


def _nameable(name, out, seconds):
    if (name is None) != (out is None):
        raise MubenchError(
            "name and out belong together: how to call the code that made these weights, and the folder to record it in"
        )
    if name is not None and (not re.fullmatch(r"[a-z][a-z0-9_]*", name) or name in registry.methods.names()):
        raise MubenchError(f"name {name!r}: give a snake_case name that is no method of mubench, such as my_method")
    if seconds is not None and not 0 <= seconds < float("inf"):
        raise MubenchError(f"seconds {seconds!r}: what unlearning took, a number from 0")
