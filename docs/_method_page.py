"""The page of a method, from its declaration."""

import re

from _markdown import escape, join, links, prose, source, table
from _names import task_names

from mubench import listing, registry
from mubench.methods.base import Method, always
from mubench.registry import load_method, load_task
from mubench.train.recipe import Recipe

HOOKS = (
    *("trainable", "prepare", "select", "penalty", "perturb", "combine", "before_step"),
    *("after_epoch", "finish", "wrap"),
)
SETS = {"forget": "D_f", "retain": "D_r"}


def method_page(name):
    cls, method = registry.methods.get(name), load_method(name)
    hooks = [f"`{hook}`" for hook in HOOKS if getattr(cls, hook) is not getattr(Method, hook)]
    needs = ", ".join(f"`{need}`" for need in sorted(method.needs)) or "nothing"
    return join(
        f"# {name}",
        prose(cls),
        f"Formerly {', '.join(f'`{old}`' for old in cls.formerly)}." if cls.formerly else "",
        "## Paper",
        escape(cls.paper) or "None.",
        "## Row of the taxonomy",
        table([{SETS.get(key, key): value for key, value in method.taxonomy().items()}]),
        "## Terms",
        "With the defaults; [what a term is](../concepts.md#terms)." if method.terms else "None.",
        table([term_row(term) for term in method.terms]),
        f"Hooks of its own: {', '.join(hooks)}." if hooks else "",
        "## Hyperparameters",
        "The others are those [of every method](index.md#hyperparameters-of-every-method). `None`: as in the original's"
        " recipe.",
        table(hyperparameters(cls)),
        f"LoRA: {lora(cls)}.",
        "## Deviations from the official code" if cls.deviations else "",
        "\n".join(f"- {escape(fact)}" for fact in cls.deviations),
        "## The official protocol",
        official(cls),
        "## Tasks it works on",
        f"It needs {needs} of a task.",
        *(f"{tier.capitalize()}: {links('tasks/', tasks(method, tier)) or 'none'}." for tier in ("mini", "paper")),
        f"Declared in `{source(cls)}`.",
    )


def term_row(term):
    remarks = {
        f"temperature {term.temperature:g}": term.temperature != 1,
        "redrawn in every epoch": term.redraw,
        f"formula `{getattr(term.how, '__name__', '')}`": term.how,
        f"corruption {' + '.join(kind.value for kind in term.corruption)}": term.corruption,
        "couples the examples of a batch": term.batchwise,
    }
    return {
        "on": SETS["forget" if term.on == "forget" else "retain"],
        "measure": f"`{term.measure}`",
        "target": f"`{term.target}`",
        "weight": f"{term.weight:g}",
        "epochs": "all" if term.when is always else re.sub(r"\(n=(\d+)\)", r" \1", repr(term.when)),
        "remarks": ", ".join(remark for remark, applies in remarks.items() if applies),
    }


def hyperparameters(cls):
    """Those that the method declares, sets otherwise than `Method` does, or has searched."""
    defaults, usual = cls.defaults(), Method.defaults()
    space = {name: listing._choice(choice) for name, choice in cls.space().items()}
    return [
        {"name": f"`{name}`", "default": f"`{value!r}`", "searched by `mubench tune`": space.get(name, "")}
        for name, value in defaults.items()
        if name not in usual or value != usual[name] or name in space
    ]


def lora(cls):
    """Whether the method works with adapters."""
    if cls.start == "fresh":
        return "no, it starts from a new model"
    return "yes" if cls.adapts else "no, it edits the weights themselves"


def official(cls):
    """What the authors' code sets, beside the default."""
    if not cls.official:
        return "There is none." if cls.official is None else "The same: it sets nothing else."
    rows = [
        {"name": f"`{name}`", "official": f"`{value!r}`", "default": f"`{cls.defaults()[name]!r}`"}
        for name, value in cls.official.items()
    ]
    return join("`None`: as in the original's recipe.", table(rows))


def tasks(method, tier):
    """The names of the tasks of a tier that a method works on."""
    declared = map(load_task, task_names())
    return [task.name for task in declared if task.tier == tier and method.needs <= set(task.provides)]


def common_hyperparameters():
    """Those of every method."""
    return join(
        "`None`: as in the recipe of the original. What they mean:",
        prose(Recipe),
        table([{"name": f"`{name}`", "default": f"`{value!r}`"} for name, value in Method.defaults().items()]),
    )
