"""What has a page of its own: folder of the site → the names of its pages."""

from mubench import registry
from mubench.measure.metrics import METRICS
from mubench.registry import load_method


def task_names():
    """All tasks, the mini tier first."""
    return sorted(registry.tasks.modules, key=lambda name: (registry.tasks.get(name).tier, name))


def method_names():
    return sorted(registry.methods.modules)


def methods_of(task):
    """The names of the methods that work on a task."""
    return [name for name in method_names() if load_method(name).needs <= set(task.provides)]


PAGES = {"tasks/": task_names, "methods/": method_names, "metrics/": lambda: [*METRICS]}
