"""A hook of MkDocs: pages of tasks, methods, metrics and the command line, made from the declarations and docstrings.

A page may also hold a line ``<!-- readme: Heading -->`` (that section of the README), ``<!-- doc: module:name -->`` (a
docstring, of the module without a name) or ``<!-- ls: kind -->`` (a listing as a table); so nothing is typed twice.
"""

import argparse
import importlib
import inspect
import json
import re
import textwrap
from dataclasses import asdict, fields
from pathlib import Path

from mubench import cli, listing, registry, splits
from mubench.models import originals
from mubench.methods.base import Method, always
from mubench.measure.metrics import METRICS
from mubench.train.recipe import Recipe
from mubench.registry import load_method, load_task
from mubench.tasks.base import Task

ROOT = Path(__file__).parent.parent
RATIOS = (1, 2, 5, 10)
KEY = re.compile(r"(\w+(?:(?:, | and | or )\w+)*): +(?=\S)")


# -- hooks
# -----------------------------------------------------------------------------------------------------------------


def on_config(config):
    """``tasks/`` in the navigation stands for the pages of all tasks, and so on."""
    for section in config.nav:
        for entries in section.values():
            for entry in entries if isinstance(entries, list) else ():
                [(title, target)] = entry.items()
                if target in KINDS:
                    entry[title] = [
                        {"Overview": f"{target}index.md"},
                        *({name: f"{target}{name}.md"} for name in KINDS[target]()),
                    ]
    return config


def on_files(files, config):
    from mkdocs.structure.files import File

    for path, text in pages().items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown, **_):
    return included(markdown)


def included(markdown):
    """A page with what it includes."""
    return re.sub(
        r"^<!-- (readme|doc|ls): (.+) -->$",
        lambda m: {"readme": readme, "doc": documented, "ls": listed}[m[1]](m[2]),
        markdown,
        flags=re.M,
    )


KINDS = {
    "tasks/": lambda: sorted(registry.tasks.modules, key=lambda name: (registry.tasks.get(name).tier, name)),
    "methods/": lambda: sorted(registry.methods.modules),
    "metrics/": lambda: [*METRICS],
}


def pages():
    """Path → Markdown of every generated page."""
    made = {"command_line.md": command_line(), "python.md": python()}
    more = {
        "tasks/": "",
        "methods/": "## Hyperparameters of every method\n\n" + common(),
        "metrics/": "## Scores of tasks\n\n" + scores(),
    }
    for (folder, names), title, page in zip(KINDS.items(), ("Tasks", "Methods", "Metrics"), (task, method, metric)):
        made[f"{folder}index.md"] = linked(join(f"# {title}", readme(title), more[folder]), folder)
        made |= {f"{folder}{name}.md": page(name) for name in names()}
    return made


# -- pages
# -----------------------------------------------------------------------------------------------------------------


def task(name):
    task = load_task(name)
    about = re.sub(r"\btwin of (\w+)", r"twin of [\1](\1.md)", prose(task))
    card = {
        "tier": task.tier,
        "modality": task.modality,
        "source": task.source,
        "licence": task.licence,
        "citation": task.citation,
        "primary metric": f"`{task.metric}` {task.metric_options or ''}",
        "further measures": ", ".join(task.also),
        "random guess": "measured once, on the data" if task.random_guess is None else f"{task.random_guess:.3g}",
        "classes": f"{task.num_labels}: {', '.join(task.labels)}" if task.labels else "",
        "transfer set": task.transfer,
        "stated shortcut": task.shortcut,
        "training rows": f"SHA-256 `{task.checksum}`" if task.checksum else "",
        "to get the data": (
            getattr(task, "remedy", "") or (f"`mubench fetch {name}`" if task.archives else "ships with mubench")
        ),
    }
    methods = [m for m in KINDS["methods/"]() if load_method(m).needs <= set(task.provides)]
    return join(
        f"# {name}",
        about,
        "## Data card",
        facts(card),
        "## Models",
        "The first is the default.",
        models(task),
        "## Recipe of the originals",
        "[What the numbers mean](../concepts.md#originals). `retrain` uses the same recipe on D_r.",
        recipes(task),
        "## Sizes",
        sizes(task),
        "## Methods that work here",
        links("methods/", methods),
        f"Declared in `{source(type(task))}`.",
    )


def models(task):
    """The models and, where they ship, the scores of their originals, from their cards."""
    rows, shipped = [], []
    for name, model in task.models.items():
        card = task.originals_dir(name) / originals.CARD
        card = json.loads(card.read_text()) if card.is_file() else None
        train = f"`mubench original {task.name} --model {name} --train`"
        rows.append(
            {
                "model": f"`{name}`",
                "class": f"`{model.architecture}`",
                "parameters": f"{card['parameters']:,}" if card else "",
                "starts from": f"`{model.pretrained}`" if model.pretrained else "scratch",
                "original": "ships with mubench" if card else f"`{model.original}`" if model.original else train,
            }
        )
        if card:
            shipped.append(
                {"model": f"`{name}`", **{kind: f"{100 * score:.1f}" for kind, score in card["scores"].items()}}
            )
    return join(
        table(rows),
        "Scores of the originals that ship, in per cent, from their cards:" if shipped else "",
        table(shipped),
    )


def recipes(task):
    """What each model's recipe sets otherwise than `Recipe` does."""
    made, usual = (
        {name: asdict(task.model_recipe(name)) for name in task.models},
        {f.name: f.default for f in fields(Recipe)},
    )
    said = [key for key in usual if any(recipe[key] != usual[key] for recipe in made.values())]
    return table([{"model": f"`{name}`", **{key: shown(recipe[key]) for key in said}} for name, recipe in made.items()])


def sizes(task):
    """Rows of each set, and how many are forgotten at some ratios."""
    rows = {
        "train (D)": task.rows["train"],
        "validation": task.rows.get("validation"),
        "test (D_t)": task.rows["test"],
        "transfer": task.rows.get("transfer"),
    }
    if "validation" not in task.rows:
        rows["validation"], rows["test (D_t)"] = map(len, task.test_rows(task.rows["test"]))
    scored = ", ".join(f"{n:,} rows of {name}" for name, n in task.measured.items())
    if type(task).units is Task.units:
        units = ""
        forget = [(ratio, n := splits.forgotten(ratio, task.rows["train"]), task.rows["train"] - n) for ratio in RATIOS]
    else:
        units = f"The unit of deletion: {prose(type(task).units)}"
        made = [task.split(ratio) for ratio in RATIOS if task.tier == "mini"]  # of the others the data are needed
        forget = [(split.name, len(split.forget), len(split.retain)) for split in made]
    return join(
        table([{"set": name, "rows": f"{n:,}"} for name, n in rows.items() if n]),
        f"Scored are at most {scored}, the first by the [hash ranking](../concepts.md#splits)." if scored else "",
        units,
        table([{"ratio": f"{ratio} %", "D_f": f"{f:,}", "D_r": f"{r:,}"} for ratio, f, r in forget]),
        "" if forget else f"`mubench split {task.name} --ratio 5` counts the rows, once the data are here.",
    )


def method(name):
    cls, made, usual = registry.methods.get(name), load_method(name), Method.defaults()
    works = {
        tier: [t for t in KINDS["tasks/"]() if load_task(t).tier == tier and made.needs <= set(load_task(t).provides)]
        for tier in ("mini", "paper")
    }
    hooks = ("prepare", "penalty", "select", "after_epoch", "finish")
    hooks = [f"`{hook}`" for hook in hooks if getattr(cls, hook) is not getattr(Method, hook)]
    space = {name: listing._choice(choice) for name, choice in cls.space().items()}
    own = [n for n, value in cls.defaults().items() if n not in usual or value != usual[n] or n in space]
    lora = (
        "no, it starts from a new model"
        if cls.start == "fresh"
        else "yes"
        if cls.adapts
        else "no, it edits the weights themselves"
    )
    return join(
        f"# {name}",
        prose(cls),
        "## Paper",
        escape(cls.paper) or "None.",
        "## Row of the taxonomy",
        table([{{"forget": "D_f", "retain": "D_r"}.get(k, k): v for k, v in made.taxonomy().items()}]),
        "## Terms",
        "With the defaults; [what a term is](../concepts.md#terms)." if made.terms else "None.",
        table([*map(term, made.terms)]),
        f"Hooks of its own: {', '.join(hooks)}." if hooks else "",
        "## Hyperparameters",
        "The others are those [of every method](index.md#hyperparameters-of-every-method). `None`: as in the original's"
        " recipe.",
        table(
            [
                {
                    "name": f"`{n}`",
                    "default": f"`{cls.defaults()[n]!r}`",
                    "searched by `mubench tune`": space.get(n, ""),
                }
                for n in own
            ]
        ),
        f"LoRA: {lora}.",
        "## Deviations from the official code" if cls.deviations else "",
        "\n".join(f"- {escape(fact)}" for fact in cls.deviations),
        "## The official protocol",
        official(cls),
        "## Tasks it works on",
        f"It needs {', '.join(f'`{n}`' for n in sorted(made.needs)) or 'nothing'} of a task.",
        *(f"{tier.capitalize()}: {links('tasks/', names) or 'none'}." for tier, names in works.items()),
        f"Declared in `{source(cls)}`.",
    )


def official(cls):
    """What the authors' code sets, beside the default."""
    if not cls.official:
        return "There is none." if cls.official is None else "The same: it sets nothing else."
    rows = [
        {"name": f"`{name}`", "official": f"`{value!r}`", "default": f"`{cls.defaults()[name]!r}`"}
        for name, value in cls.official.items()
    ]
    return join("`None`: as in the original's recipe.", table(rows))


def term(t):
    remarks = {
        f"temperature {t.temperature:g}": t.temperature != 1,
        "redrawn in every epoch": t.redraw,
        f"formula `{getattr(t.how, '__name__', '')}`": t.how,
    }
    return {
        "on": "D_f" if t.on == "forget" else "D_r",
        "measure": f"`{t.measure}`",
        "target": f"`{t.target}`",
        "weight": f"{t.weight:g}",
        "epochs": "all" if t.when is always else re.sub(r"\(n=(\d+)\)", r" \1", repr(t.when)),
        "remarks": ", ".join(remark for remark, so in remarks.items() if so),
    }


def common():
    return join(
        "`None`: as in the recipe of the original. What they mean:",
        prose(Recipe),
        table([{"name": f"`{n}`", "default": f"`{v!r}`"} for n, v in Method.defaults().items()]),
    )


def metric(name):
    m = METRICS[name]
    better = {"higher": "higher", "lower": "lower", "retrain": "the closer to the retrained model's value the better"}
    listed = lambda names: ", ".join(f"`{name}`" for name in names)
    said = {
        "better": better.get(m.better, f"the closer to {m.better} the better"),
        "sets": ", ".join(m.needs),
        "columns of `predictions.parquet`": listed(m.columns),
        "facts of the result": listed(m.facts),
        "needs the retrained model's predictions": "yes" if m.retrain else "no",
    }
    return join(
        f"# {name}",
        prose(m.compute),
        "## What it is computed from",
        facts(said),
        f"A pure function of stored predictions, in `{source(m.compute)}`; `mubench score RESULT` computes it again.",
    )


def scores():
    """The primary metrics, one of which each task has."""
    from mubench.measure.metrics.primary import PRIMARY

    used = {name: [t for t in KINDS["tasks/"]() if registry.tasks.get(t).metric == name] for name in PRIMARY}
    return join(
        *(join(f"### {name}", prose(cls), f"Of {links('tasks/', used[name])}.") for name, cls in PRIMARY.items())
    )


def command_line():
    said = ["# Command line", "What `mubench VERB --help` prints."]
    for verb, sub in verbs().items():
        sub.formatter_class = lambda prog: argparse.RawDescriptionHelpFormatter(prog, width=100)
        said += [f"## {verb}", f"```text\n{sub.format_help().strip()}\n```"]
    return join(*said)


def python():
    import mubench

    said = ["# Python", "`import mubench` loads nothing heavy; each function loads what it needs."]
    for name in filter(str.islower, mubench.__all__):
        function = getattr(mubench, name)
        signature = textwrap.fill(
            f"mubench.{name}{inspect.signature(function)}", 100, subsequent_indent=" " * len(f"mubench.{name}(")
        )
        said += [f"## {name}", f"```text\n{signature}\n```", prose(function)]
    return join(*said)


def verbs():
    """Verb → its parser."""
    return next(action.choices for action in cli.parser()._actions if action.metavar == "VERB")


# -- pieces
# ----------------------------------------------------------------------------------------------------------------


def readme(heading):
    """What the README says between a heading and the next one, its listings as tables."""
    text = (ROOT / "README.md").read_text()
    bare = re.sub(
        r"^```.*?^```", lambda fence: re.sub(r"[^\n]", " ", fence[0]), text, flags=re.M | re.S
    )  # a comment there is no heading
    found = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#+ |\Z)", bare, re.M | re.S)
    if not found:
        raise ValueError(f"the README has no heading {heading!r}")
    body = re.sub(
        r"<!-- mubench ls (\w+) -->\n```text\n.*?```",
        lambda m: listed(m[1]),
        text[found.start(1) : found.end(1)],
        flags=re.S,
    )
    return re.sub(r"<!--.*?-->\n", "", body).replace("](docs/", "](").strip()


def listed(kind):
    return table(listing._KINDS[kind]())


def linked(text, folder):
    """Names in the first column of tables of an overview become links to their pages."""
    names = "|".join(KINDS[folder]())
    return re.sub(rf"^\| `?({names})`? \|", r"| [\1](\1.md) |", text, flags=re.M)


def documented(reference):
    module, _, name = reference.partition(":")
    module = importlib.import_module(module)
    return prose(getattr(module, name) if name else module)


def prose(thing):
    """A docstring as Markdown; a paragraph of ``name: meaning`` lines, their continuation indented, becomes a list."""
    blocks = []
    for block in (inspect.getdoc(thing) or "").split("\n\n"):
        lines = block.split("\n")
        if all(KEY.match(line) or line.startswith("    ") for line in lines) and KEY.match(lines[0]):
            block = "\n".join(KEY.sub(r"- ``\1``: ", line, count=1) if KEY.match(line) else line[2:] for line in lines)
        blocks.append(escape(block))
    return "\n\n".join(blocks)


def escape(text):
    """Text with ``literals`` and *stress* as Markdown in which nothing else has a meaning but addresses, which become
    links.
    """
    parts = re.split(r"(``.+?``|`[^`\n]+`)", text, flags=re.S)
    return "".join(
        "`" + " ".join(part.strip("`").split()) + "`" if i % 2 else _plain(part) for i, part in enumerate(parts)
    )


def _plain(text):
    text = re.sub(r"\*\*(?=\w)", r"\*\*", text).replace("<", "&lt;")
    text = re.sub(r"https?://[^\s;,)]*[^\s;,.)]", r"[\g<0>](\g<0>)", text)
    text = re.sub(r"arXiv:(\d{4}\.\d{5})", r"[arXiv:\1](https://arxiv.org/abs/\1)", text)
    return re.sub(r"(?<=\bcode )[\w.-]+/[\w.-]*\w", r"[\g<0>](https://github.com/\g<0>)", text)


def facts(said):
    """A table of two columns without a head; what is empty is left out."""
    return table([{"": name, " ": value} for name, value in said.items() if value])


def links(folder, names):
    return ", ".join(f"[{name}](../{folder}{name}.md)" for name in names)


def table(rows):
    """Rows (dicts of the same keys) as a Markdown table; columns that are empty in all rows are left out."""
    if not rows:
        return ""
    keys = [key for key in rows[0] if any(str(row[key]).strip() for row in rows)]
    cell = lambda value: (
        (str(value) if "](" in str(value) else escape(str(value))).replace("|", "\\|").replace("\n", " ") or " "
    )
    line = lambda cells: "| " + " | ".join(cells) + " |"
    return "\n".join(
        [
            line(key or " " for key in keys),
            line("---" for _ in keys),
            *(line(cell(row[key]) for key in keys) for row in rows),
        ]
    )


def shown(value):
    return "`" + (f"{value:g}" if isinstance(value, float) else str(value)) + "`"


def source(thing):
    return Path(inspect.getfile(thing)).resolve().relative_to(ROOT.resolve())


def join(*parts):
    return "\n\n".join(part for part in map(str, parts) if part.strip()) + "\n"
