"""Original checkpoints: found, verified, trained. Safetensors only; the hash of the weights goes into every result."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

from mubench import registry
from mubench.cache import cache_dir
from mubench.errors import MubenchError
from mubench.models import networks
from mubench.spec import ENGINE, command

WEIGHTS, CARD = "model.safetensors", "card.json"


def resolve(task, model, checkpoint=None, seed=0):
    """Folder or hub id of an original of a task's model.

    It is what the user passes; else of seed 0 the package's, the cache's or the published one, of others the cache's.
    Raises `MubenchError` where it is not trained yet.
    """
    if checkpoint is not None:
        return str(checkpoint)
    for folder in [task.originals_dir(model)] * (not seed) + [trained_dir(task, model, seed)]:
        if networks.weights(folder):
            return str(folder)
    if not seed and task.models[model].original:
        return task.models[model].original
    raise MubenchError(
        f"{task.name} has no original {model}{f' of seed {seed}' * bool(seed)} yet: `{how_to_train(task, model, seed)}`"
        " makes one, or give --checkpoint FOLDER"
    )


def how_to_train(task, model, seed=0):
    """The command that trains an original."""
    return command({"task": registry.tasks.reference(task), "model": model, "seed": seed}, "original", train=True)


def trained_root():
    """Where all originals of the user's own making lie."""
    return cache_dir() / "originals"


def trained_dir(task, model, seed=0):
    """Where `train_original` puts an original of the user's own making.

    There is a folder for each seed, recipe, declaration of the model and version of the code.
    """
    key = [ENGINE, registry.tasks.code(type(task)), asdict(task.model_recipe(model)), asdict(task.models[model])]
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:8]
    return trained_root() / task.name / f"{model}-{seed}-{digest}"


def load(task, model, checkpoint=None, seed=0):
    """The original model that runs of a seed start from, and its facts.

    task, model: whose original.
    checkpoint: a folder or hub id, instead of the standard one.
    seed: of the standard one.

    Returns (network, ``{"source", "sha256", "card"}``); the card is None where there is none. Raises `MubenchError` for
    a folder without safetensors, a file cut short or altered, or a model with another head.
    """
    source = resolve(task, model, checkpoint, seed)
    folder = _folder(task, model, source, checkpoint)
    facts = {"source": source, "sha256": networks.weights_sha256(folder), "card": None}
    if (folder / CARD).is_file():
        facts["card"] = _card(folder, facts["sha256"])
    if checkpoint is None and Path(source).is_relative_to(trained_root()):
        _check_place(task, model, seed, folder, facts["card"] or {})
    return _network(task, model, source, folder), facts


def part(task, model, folder, kind):
    """The network of one part of a wrapper.

    task, model: whose wrapper it is.
    folder: of the part.
    kind: the name of its class, which one of the task's models must have (`model_of`).
    """
    return _network(task, model_of(task, model, kind), str(folder), _folder(task, model, str(folder), folder))


def model_of(task, model, kind):
    """The task's model of a class, by the name of that: ``model`` where it is one. Raises where there is none."""
    names = [name for name in (model, *task.models) if task.models[name].architecture == kind]
    if not names:
        raise MubenchError(f"no model of {task.name} is a {kind}: a part of a wrapper is one of the task's models")
    return names[0]


def located(task, model, source):
    """The folder of a checkpoint, a folder or a hub id; what the hub has is downloaded."""
    networks.check_source(str(source))
    return networks.local(source, task.models[model].part)


def _folder(task, model, source, checkpoint):
    """`located`, weights and configuration in it."""
    try:
        find = located if checkpoint is not None else lambda *_: networks.local(source, task.models[model].part)
        folder = find(task, model, source)
    except MubenchError as error:
        raise error if checkpoint else MubenchError(f"{error}; or train it: `{how_to_train(task, model)}`") from None
    if (folder / networks.WRAPPER).exists():
        raise MubenchError(
            f"{source} holds a wrapper, which is measured (`mubench evaluate`) and not unlearned from: give a network"
        )
    if not networks.weights(folder):
        raise MubenchError(
            f"{source} has no {WEIGHTS}: only safetensors are read; save yours with "
            "model.save_pretrained(folder, safe_serialization=True)"
        )
    if not (folder / "config.json").is_file():
        raise MubenchError(f"{source} has no config.json: save the model with model.save_pretrained(folder)")
    return folder


def _card(folder, sha256):
    """The card beside some weights, which must be those it describes."""
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        described, _ = card["sha256"], card["scores"]["test"]
    except (ValueError, KeyError, TypeError):
        raise MubenchError(
            f"{folder / CARD} is damaged: reinstall the package, or remove that file if the weights are yours"
        ) from None
    if described != sha256:
        raise MubenchError(
            f"the weights in {folder} are not those their card describes (checksum {sha256[:12]}…, card "
            f"{described[:12]}…): reinstall the package or train the original anew"
        )
    return card


def _check_place(task, model, seed, folder, card):
    """Raise where an original in the cache is another than its place says."""
    wanted = {"task": task.name, "model": model, "seed": seed, "data": task.data_checksum}
    wrong = [f"{name} {card.get(name)!r}, not {value!r}" for name, value in wanted.items() if card.get(name) != value]
    if wrong:
        raise MubenchError(
            f"the original in {folder} is another than its place says ({wrong[0]}): remove that folder,"
            f" `{how_to_train(task, model, seed)}` makes it anew"
        )


def _network(task, model, source, folder):
    """The model in a folder, which must be of the class and the head that the task declares."""
    cls = task.model_class(model)
    try:
        kind, classes = networks.described(folder)
        if kind != networks.kind(cls):
            raise MubenchError(f"checkpoint {source} is a {kind}, {model} of {task.name} is a {networks.kind(cls)}")
        if task.head_options and classes != task.num_labels:
            raise MubenchError(
                f"checkpoint {source} has {classes} classes, {task.name} has {task.num_labels}: "
                "give a model trained for this task"
            )
        network, lost = networks.read(cls, folder)
    except MubenchError:
        raise
    except Exception as error:
        raise MubenchError(
            f"checkpoint {source} cannot be read ({type(error).__name__}: {str(error).splitlines()[0][:120]}): "
            "it is damaged, incomplete or not reachable"
        ) from error
    if lost:
        raise MubenchError(
            f"checkpoint {source} does not hold {len(lost)} of the weights of {model}, among them {lost[0]}: "
            "it is incomplete or of another configuration"
        )
    return network


def portable(source):
    """A checkpoint's source without this machine's folders.

    Where it lies in the package or the cache, it is the path from there.
    """
    path = Path(source).resolve()
    for root in (Path(__file__).resolve().parents[2], trained_root().resolve()):
        if path.is_relative_to(root):
            return str(path.relative_to(root))
    return source
