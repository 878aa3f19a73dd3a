"""The Python side for one's own models and checkpoints; `mubench.run` is in `mubench.runner`."""

import copy
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mubench import registry
from mubench.errors import MubenchError
from mubench.examples import View, Wrapped
from mubench.job import Job, original
from mubench.measure.probes.base import load_probes
from mubench.models import networks
from mubench.models.behaviour import Custom
from mubench.models.unlearned import Unlearned
from mubench.models.unlearned import load as load_unlearned
from mubench.records.store import Store
from mubench.registry import load_task
from mubench.runner import carry_out
from mubench.spec import Options, RunSpec, command
from mubench.splits import ratio_name
from mubench.train.recipe import Recipe

RECIPE = Recipe(lr=1e-3, epochs=10, batch_size=32)  # stands for the original's, which is not known
UNKNOWN = ("cpu_seconds", "steps", "examples", "flops", "peak_memory_bytes")  # costs of what other code has unlearned


def unlearn(
    model: Any,
    forget: Any,
    retain: Any = None,
    method: Any = "salun",
    *,
    collate: Callable | None = None,
    loss: Callable | None = None,
    fresh: Callable[[], Any] | None = None,
    head: str | None = None,
    num_labels: int | None = None,
    validation: Any = None,
    inplace: bool = False,
    progress: bool = True,
    **options: Any,
) -> Unlearned:
    """Make a model of one's own forget. The same seed on one process gives the same bits.

    model: a ``torch.nn.Module`` called as ``model(**batch)`` without the labels, giving logits [B, C] or an object with
        ``.logits`` (any `transformers` classifier); or anything, if ``loss`` is given.
    forget, retain: map-style data sets of dicts (Hugging Face data sets, ``torch`` data sets, lists), items ``{input:
        …, "labels" or "label": …}``. Disjoint. Without ``retain`` only methods run that need none.
    method: a registry name, ``path/to/file.py:Class`` or a `Method`.
    collate: list of items → dict of tensors with first dimension B (default: ``torch``'s).
    loss: ``loss(model, batch)`` → per-example losses [B], or (losses [B], logits [B, C]); default cross-entropy.
    fresh: () → a new, untrained model, for methods that need one (default: by the model's configuration).
    head: name of the submodule whose input is the representation of an example (``classifier``), for methods that
        measure it.
    num_labels: C (default: as the logits of the forget set say).
    validation: more examples, held out from training, for methods that measure a threshold on such.
    inplace: change ``model`` itself.
    progress: show a bar.
    options: the fields of `Options` (seed, protocol, precision, lora, lora_rank, curriculum, max_steps …), and
        hyperparameters of the method, such as ``lr`` (default: its ``lr_factor`` × 1e-3), ``epochs`` and
        ``batch_size`` (32). LoRA adapters are merged at the end.

    Returns an `Unlearned`. Raises `MubenchError` for an empty forget set, a method that needs what the model does not
    give, an unknown hyperparameter, or a loss that becomes NaN or infinite.
    """
    method, asked = _chosen(method, options)
    sets = _examples(collate, forget=forget, retain=retain, validation=validation)
    behaviour = _behaviour(method, model, sets, loss, num_labels, head)
    asked.fits(method, behaviour.num_labels)
    student, fresh = model if inplace else copy.deepcopy(model), fresh or (lambda: _untrained(model, method))
    job = Job.make(behaviour, method, asked, sets, student, fresh, RECIPE)
    return job.train(progress)


def _chosen(method, options):
    """The `Method` and its `Options`, from what `unlearn` was given."""
    asked = Options.checked(**{name: options.pop(name) for name in [*options] if name in Options.model_fields})
    if isinstance(method, registry.methods.base):
        if options or asked.protocol != "suite":
            raise MubenchError(
                f"{method.name} is given with its hyperparameters: set {', '.join(options) or 'the protocol'} where you"
                " make it, or pass its name"
            )
        return method, asked
    return registry.load_method(method, **registry.methods.get(method).overrides(asked.protocol) | options), asked


def _examples(collate, **data):
    """Name → `Examples` of the data sets that are given; none may be empty."""
    sets = {
        name: rows if isinstance(rows, View) else Wrapped(rows, collate)
        for name, rows in data.items()
        if rows is not None
    }
    for name, view in sets.items():
        if not len(view):
            raise MubenchError(f"the {name} set is empty: give at least one example")
    return sets


def _behaviour(method, model, sets, loss, num_labels, head):
    """How the model is called and what it gives, tried on the forget set; raises where the method needs more."""
    if "retain" in method.needs and "retain" not in sets:
        raise MubenchError(
            f"{method.name} needs a retain set: pass retain=, or choose a method that trains on D_f alone"
        )
    behaviour = Custom(loss, num_labels, head)
    behaviour.probe(model, sets["forget"])
    if missing := method.needs - behaviour.provides - {"retain"}:
        raise MubenchError(
            f"{method.name} needs {', '.join(sorted(missing))}, which this model and loss do not give: let loss return"
            " (losses, logits) and batches hold 'labels', and name the head, head='classifier', for representations"
            " (rep)"
        )
    return behaviour


def _untrained(model, method):
    """A new model by the configuration of one that has some."""
    if not hasattr(model, "config"):
        raise MubenchError(
            f"{method.name} needs an untrained model: pass fresh=, a function without arguments that builds one"
        )
    return type(model)(model.config)


def evaluate(
    task: Any,
    checkpoint: Any,
    *,
    model: str | None = None,
    ratio: float | str | None = None,
    unit: str | None = None,
    split_file: str | Path | None = None,
    seed: int = 0,
    limit: int | None = None,
    name: str | None = None,
    out: str | Path | None = None,
    seconds: float | None = None,
    paper: str = "",
    save_model: bool = False,
    attack: Sequence[Any] = (),
) -> dict[str, float | None]:
    """Measure weights that any code has unlearned.

    task: a registry name.
    checkpoint: a folder in safetensors (or a hub id), as ``save_model`` keeps it too, or a ``torch.nn.Module`` of the
        task's class, or an `Unlearned`.
    model: which of the task's models it is (default: the first).
    ratio, unit, split_file: what was to be forgotten (default: `RunSpec`'s ratio, of the task's first unit).
    seed: of the original they come from and of the untrained model ZRF compares with: which of several runs of that
        code this is.
    limit: only so many rows of each set: a trial, marked and never ranked.
    name, out: what to call that code, and a folder of results to put record and predictions into, as a run does.
    seconds: what unlearning took on this machine (None: not known).
    paper: where the code is described.
    save_model: keep the weights too.
    attack: probes to carry out besides, as in `mubench.run`.

    Returns name → value of every metric that applies; scores are fractions. Raises `MubenchError` where the checkpoint
    cannot be read or does not fit the task, `ProbeFailed`, with the ``result``, where a probe fails.
    """
    _nameable(name, out, seconds)
    reference, task = task if isinstance(task, str) else task.name, load_task(task)
    attack = load_probes(attack, task)
    model, in_file = task.model(model), isinstance(checkpoint, (str, Path))
    network = checkpoint.model if isinstance(checkpoint, Unlearned) else checkpoint
    if in_file:
        network = load_unlearned(task, model, checkpoint, lambda: original(task, model, seed=seed)[0])
    method = f"{name}@{networks.weights_hash(network)[:12]}"
    ratio = ratio_name(RunSpec.model_fields["ratio"].default if ratio is None else ratio)
    rows = {"split_file": str(split_file)} if split_file else {"ratio": ratio, "unit": task.unit(unit)}
    spec = RunSpec.checked(task=reference, model=model, method=method, seed=seed, limit=limit, **rows)
    again = spec.model_dump() | {"method": str(checkpoint) if in_file else "CHECKPOINT"}
    again |= {"name": name, "out": out, "seconds": seconds, "attack": [probe.reference for probe in attack] or None}
    result = carry_out(
        Job.of(spec, task, network),
        out and Store(out),
        save_model,
        attack=attack,
        costs=_costs_elsewhere(seconds),
        method={"name": str(name), "paper": paper},
        command=command(again, "evaluate"),
    )
    return result.metrics


def _costs_elsewhere(seconds):
    """The costs of what other code has unlearned: nothing is known of them but, perhaps, the seconds."""
    known = {"unlearning_seconds": seconds, **dict.fromkeys(UNKNOWN)}
    return known | {"stopped_by": "epochs", "losses": [], "validation": []}


def _nameable(name, out, seconds):
    if (name is None) != (out is None):
        raise MubenchError(
            "name and out belong together: how to call the code that made these weights, and the folder to record it in"
        )
    if name is not None and (not re.fullmatch(r"[a-z][a-z0-9_]*", name) or name in registry.methods.names()):
        raise MubenchError(f"name {name!r}: give a snake_case name that is no method of mubench, such as my_method")
    if seconds is not None and not 0 <= seconds < float("inf"):
        raise MubenchError(f"seconds {seconds!r}: what unlearning took, a number from 0")
