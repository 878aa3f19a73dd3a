"""The scores on an original's card: of which sets they are, and whether they are still what they were."""

from mubench.errors import MubenchError
from mubench.measure.predict import predict, scores
from mubench.models import originals
from mubench.train.distributed import threads

CLOSE = 0.005  # how far a score may be from the recorded one: other processors round otherwise


def on_card(task, sets):
    """The sets that an original's card has scores of.

    sets: name → examples, all of the task's.
    """
    named = ("train", "validation", "test", "transfer", *task.scored_sets)
    return task.scored({name: view for name, view in sets.items() if name in named})


def verify_original(task, model, checkpoint=None, seed=0):
    """Measure an original again.

    Returns ``{"sha256", "source", "scores"}``. Raises `MubenchError` where a score is not what its card says.
    """
    network, facts = originals.load(task, model, checkpoint, seed)
    sets = task.sets(model)
    with threads(task.threads):
        found = scores(task, predict(task, network, on_card(task, sets)))
    recorded = (facts["card"] or {}).get("scores", {})
    off = {
        name: (recorded[name], found[name]) for name in recorded if abs(recorded[name] - found.get(name, -1)) > CLOSE
    }
    if off:
        raise MubenchError(
            f"original {model} of {task.name} does not score what its card says: {off} (recorded, found)"
        )
    return {"sha256": facts["sha256"], "source": facts["source"], "scores": found}
