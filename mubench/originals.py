"""Original checkpoints: found, verified, trained. Safetensors only; the hash of the weights goes into every result."""
import json
import platform
import time
from dataclasses import asdict
from pathlib import Path

from mubench import networks
from mubench.cache import cache_dir, whole, writing
from mubench.errors import MubenchError

WEIGHTS, CARD = "model.safetensors", "card.json"


def resolve(task, model, checkpoint=None):
    """Folder or hub id of the original of a task's model: what the user passes, the package's, the cache's, the published one."""
    if checkpoint is not None:
        return str(checkpoint)
    for folder in (task.originals_dir(model), trained_dir(task, model)):
        if networks.weights(folder):
            return str(folder)
    if task.models[model].original:
        return task.models[model].original
    raise MubenchError(f"{task.name} has no original {model} yet: `mubench original {task.name} --model {model} --train` makes one, "
                       "or give --checkpoint FOLDER")


def trained_dir(task, model):
    """Where `train` puts an original of the user's own making."""
    return cache_dir() / "originals" / task.name / model


def load(task, model, checkpoint=None):
    """The original model and its facts: ``{"source", "sha256", "card"}``.

    Raises `MubenchError` for a folder without safetensors, a file cut short or altered, or a model with another head.
    """
    source, declared, cls = resolve(task, model, checkpoint), task.models[model], task.model_class(model)
    if checkpoint is not None and not Path(source).is_dir() and (source.count("/") != 1 or source.startswith((".", "/", "~"))):
        raise MubenchError(f"no checkpoint folder {source!r}: give a folder with {WEIGHTS} and config.json, or a hub id")
    try:
        folder = networks.local(source, declared.part)
    except MubenchError as error:
        raise error if checkpoint else MubenchError(f"{error}; or train it: `mubench original {task.name} --model {model} --train`") from None
    if not networks.weights(folder):
        raise MubenchError(f"{source} has no {WEIGHTS}: only safetensors are read; save yours with "
                           "model.save_pretrained(folder, safe_serialization=True)")
    if not (folder / "config.json").is_file():
        raise MubenchError(f"{source} has no config.json: save the model with model.save_pretrained(folder)")
    facts = {"source": source, "sha256": networks.weights_sha256(folder), "card": None}
    if (folder / CARD).is_file():
        try:
            facts["card"] = json.loads((folder / CARD).read_text())
            described = facts["card"]["sha256"], facts["card"]["scores"]["test"]
        except (ValueError, KeyError, TypeError):
            raise MubenchError(f"{folder / CARD} is damaged: reinstall the package, or remove that file if the weights "
                               "are yours") from None
        if described[0] != facts["sha256"]:
            raise MubenchError(f"the weights in {folder} are not those their card describes (checksum {facts['sha256'][:12]}…, card "
                               f"{described[0][:12]}…): reinstall the package or train the original anew")
    try:
        kind, classes = networks.described(folder)
        if kind != networks.kind(cls):
            raise MubenchError(f"checkpoint {source} is a {kind}, {model} of {task.name} is a {networks.kind(cls)}")
        if task.head_options and classes != task.num_labels:
            raise MubenchError(f"checkpoint {source} has {classes} classes, {task.name} has {task.num_labels}: "
                               "give a model trained for this task")
        network, lost = networks.read(cls, folder)
    except MubenchError:
        raise
    except Exception as error:
        raise MubenchError(f"checkpoint {source} cannot be read ({type(error).__name__}: {str(error).splitlines()[0][:120]}): "
                           "it is damaged, incomplete or not reachable") from error
    if lost:
        raise MubenchError(f"checkpoint {source} does not hold {len(lost)} of the weights of {model}, among them {lost[0]}: "
                           "it is incomplete or of another configuration")
    return network, facts


def train(task, model, folder=None, seed=0, progress=True):
    """Train the original of a task's model on all of D by its recipe; writes weights, config and card, returns the card.

    folder: where to; default the user's cache, where it is found from then on. Deterministic on one machine, given the seed.
    """
    import torch

    from mubench.engine import Context, Engine, threads
    from mubench.evaluation import predict, scores, validator
    from mubench.registry import load_method

    folder = Path(folder or trained_dir(task, model))
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)  # before the work, not after it
    split = task.split(5)
    sets = task.sets(model, split)
    context = Context(task, None, lambda: task.build(model, seed), sets["forget"], sets["train"], seed, start="fresh")
    with threads(task.threads):
        used = torch.get_num_threads()
        engine = Engine(load_method("retrain"), context, task.model_recipe(model), progress=progress, validate=validator(task, sets))
        costs = engine.run()
        frame = predict(task, context.student, _scored(task, sets))
    with whole(folder / CARD) as card_file:
        with networks.no_bars():
            context.student.save_pretrained(folder, safe_serialization=True)
        chosen = {"validation": costs.validation} if costs.validation else {}
        card = {"task": task.name, "model": model, "architecture": task.models[model].architecture,
                "parameters": sum(p.numel() for p in context.student.parameters()), "seed": seed,
                "recipe": asdict(task.model_recipe(model)), "scores": scores(task, frame), **chosen, "data": split.data,
                "sha256": networks.weights_sha256(folder), "train_seconds": round(costs.unlearning_seconds, 1),
                "environment": {"python": platform.python_version(), **_versions(), "machine": platform.machine(), "threads": used},
                "made": time.strftime("%Y-%m-%d", time.gmtime())}
        card_file.write_text(json.dumps(card, indent=1) + "\n")
    return card


def verify(task, model, checkpoint=None):
    """Measure an original again; returns ``{"card", "scores"}``, raising if a recorded score cannot be reproduced to 0.005."""
    from mubench.engine import threads
    from mubench.evaluation import predict, scores

    network, facts = load(task, model, checkpoint)
    sets = task.sets(model, task.split(5))
    with threads(task.threads):
        found = scores(task, predict(task, network, _scored(task, sets)))
    recorded = (facts["card"] or {}).get("scores", {})
    off = {name: (recorded[name], found[name]) for name in recorded if abs(recorded[name] - found.get(name, -1)) > 0.005}
    if off:
        raise MubenchError(f"original {model} of {task.name} does not score what its card says: {off} (recorded, found)")
    return {"sha256": facts["sha256"], "source": facts["source"], "scores": found}


def _scored(task, sets):
    return task.scored({name: view for name, view in sets.items() if name in ("train", "validation", "test", "transfer")})


def _versions():
    from importlib.metadata import version

    return {name: version(name) for name in ("torch", "transformers")}
