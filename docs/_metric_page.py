"""The page of a metric, and the scores of tasks, from their declarations."""

from _markdown import facts, join, links, prose, source
from _names import task_names

from mubench import registry
from mubench.measure.metrics import METRICS
from mubench.measure.metrics.primary import PRIMARY

BETTER = {"higher": "higher", "lower": "lower", "retrain": "the closer to the retrained model's value the better"}


def metric_page(name):
    metric = METRICS[name]
    made_of = {
        "better": BETTER.get(metric.better, f"the closer to {metric.better} the better"),
        "sets": ", ".join(metric.needs),
        "columns of `predictions.parquet`": ", ".join(f"`{column}`" for column in metric.columns),
        "facts of the result": ", ".join(f"`{fact}`" for fact in metric.facts),
        "references": _references(metric),
        "probe": f"`{metric.probe}`" if metric.probe else "",
    }
    return join(
        f"# {name}",
        prose(metric.compute),
        "## What it is computed from",
        facts(made_of),
        f"A pure function of stored predictions, in `{source(metric.compute)}`; `mubench score RESULT` computes it"
        " again.",
    )


def _references(metric):
    """What other models it looks at."""
    if metric.own_seed:
        return ", ".join(f"the {role} model of the run's own seed" for role in metric.references)
    return ", ".join(f"{role}: {least} models or more" for role, least in metric.references.items()) or "none"


def scores_of_tasks():
    """The primary metrics, one of which each task has."""
    tasks = {name: [task for task in task_names() if registry.tasks.get(task).metric == name] for name in PRIMARY}
    return join(
        *(join(f"### {name}", prose(score), f"Of {links('tasks/', tasks[name])}.") for name, score in PRIMARY.items())
    )
