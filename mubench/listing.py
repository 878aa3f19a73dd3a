"""`mubench ls`: what there is, from the declarations alone, without torch."""

import inspect

from mubench import registry


def show(what):
    """What there is, as text.

    what: a kind (``tasks``, ``models``, ``methods``, ``metrics``, or ``pairs``: which method works on which mini task),
        or the name of one task or method, for its facts.

    Raises `MubenchError` for what is neither.
    """
    if what in _KINDS:
        return _table(_KINDS[what]())
    if registry.tasks.holds(what):
        return _task(registry.load_task(what))
    if what in registry.methods.names() or what in registry.methods.renamed or ".py" in what:
        return _method(registry.methods.get(what))
    from mubench.errors import nearest

    raise nearest(
        "name",
        what,
        [*_KINDS, *registry.tasks.names(), *registry.methods.names()],
        "`mubench ls tasks|models|methods|metrics|probes|pairs`",
    )


def taxonomy():
    """The paper's Table 2, computed from the methods' terms: a list of dicts, one per method."""
    rows = []
    for name in registry.methods.names():
        method = registry.load_method(name)
        rows.append({"method": name, **method.taxonomy(), "about": _first(method)})
    return rows


def _methods():
    return [
        {
            "method": r["method"],
            "D_f": r["forget"],
            "corruption": r["corruption"],
            "D_r": r["retain"],
            "parameters": r["parameters"],
            "schedule": r["schedule"],
            "about": r["about"],
        }
        for r in taxonomy()
    ]


def _tasks():
    tasks = sorted((registry.load_task(name) for name in registry.tasks.names()), key=lambda t: t.tier)
    return [
        {
            "task": t.name,
            "tier": t.tier,
            "modality": t.modality,
            "metric": t.metric,
            "random": _guess(t),
            "models": _few([*t.models]),
            "about": _first(t),
        }
        for t in tasks
    ]


def _models():
    tasks = [registry.load_task(name) for name in registry.tasks.names()]
    return [
        {"task": t.name, "model": name, "class": m.architecture, "from": m.pretrained or "scratch"}
        for t in tasks
        for name, m in t.models.items()
    ]


def _metrics():
    from mubench.measure.metrics import METRICS

    return [{"metric": m.name, "better": m.better, "about": m.description} for m in METRICS.values()]


def _probes():
    """Of each, where it comes from: to know more, PyTorch would be imported."""
    added = {name: entry.value for name, entry in registry.probes.plugins.items()}
    return [{"probe": name, "from": where} for name, where in sorted((registry.probes.modules | added).items())]


def pairs():
    """Method name → names of the mini tasks that provide what it needs; computed from what both declare."""
    return {
        name: [t for t in _mini() if registry.load_method(name).needs <= set(registry.load_task(t).provides)]
        for name in registry.methods.names()
    }


def _mini():
    from mubench.sweep import grid

    return grid.expand_tasks(["mini"])


def _pairs():
    columns = _mini()
    return [
        {"method": name, **{task: "x" if task in works else "-" for task in columns}} for name, works in pairs().items()
    ]


_KINDS = {
    "tasks": _tasks,
    "models": _models,
    "methods": _methods,
    "metrics": _metrics,
    "probes": _probes,
    "pairs": _pairs,
}


def _few(names):
    """At most two names; `ls models` has them all."""
    return " ".join(names[:2]) + (f" +{len(names) - 2}" if len(names) > 2 else "")


def _guess(task):
    return "measured" if task.random_guess is None else f"{task.random_guess:.3g}"


def _task(task):
    facts = {
        "tier": task.tier,
        "modality": task.modality,
        "source": task.source,
        "licence": task.licence,
        "citation": task.citation,
        "transfer": task.transfer,
        "units": ", ".join(task.unit_kinds),
        "metric": f"{task.metric} (random guess {_guess(task)})",
        "scored on": "; ".join(f"{name}: {about}" for name, about in task.scored_sets.items()),
        "labels": ", ".join(task.labels),
        "models": ", ".join(f"{n} ({m.architecture})" for n, m in task.models.items()),
        "recipe": str(task.recipe),
    }
    return f"{task.name}: {inspect.getdoc(task)}\n\n" + "\n".join(f"{k:9} {v}" for k, v in facts.items() if v)


def _method(cls):
    values = lambda some: "".join(f"\n  {name:18} {value!r}" for name, value in some.items())
    official = "there is none" if cls.official is None else values(cls.official) or "the same"
    parts = {
        f"{cls.name}:": f" {inspect.getdoc(cls)}",
        "paper:": f" {cls.paper or '-'}",
        "hyperparameters and defaults (None: as the original's recipe):": values(cls.defaults()),
        "deviations from the official code:": "".join(f"\n  - {fact}" for fact in cls.deviations),
        "in the official protocol:": official if official.startswith("\n") else f" {official}",
        "searched by `mubench tune`:": "".join(f"\n  {name:18} {_choice(of)}" for name, of in cls.space().items()),
    }
    return "\n\n".join(title + text for title, text in parts.items() if text)


def _choice(choice):
    if isinstance(choice, list):
        return " | ".join(map(str, choice))
    return f"{choice[0]:g} to {choice[1]:g}" + (", logarithmic" if choice[2:] else "")


def _first(thing):
    """The first paragraph of its docstring, on one line."""
    return " ".join((inspect.getdoc(thing) or "").split("\n\n")[0].split())


def _table(rows):
    """Columns as wide as their widest cell, the last one left as it is."""
    lines = [list(rows[0]), *([str(v) for v in row.values()] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(rows[0]) - 1)] + [0]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines)
