"""A hook of MkDocs: pages of tasks, methods, metrics and the command line, made from the declarations and docstrings.

A page may also hold a line ``<!-- readme: Heading -->`` (that section of the README), ``<!-- doc: module:name -->`` (a docstring, of the
module without a name) or ``<!-- ls: kind -->`` (a listing as a table); so nothing is typed twice. What stands between
``<!-- awaits: WORD -->`` and ``<!-- end -->`` is left out as long as the command line knows no such verb or option.
"""
import argparse
import importlib
import inspect
import json
import re
import textwrap
from dataclasses import asdict
from pathlib import Path

from mubench import cli, listing, originals, registry, splits
from mubench.methods.base import Method, always
from mubench.metrics import METRICS
from mubench.registry import load_method, load_task

ROOT = Path(__file__).parent.parent
RATIOS = (1, 2, 5, 10)
API = ("run", "tune", "unlearn", "evaluate", "score", "board", "report", "submit", "check", "load_task", "load_method")  # those there are
KEY = re.compile(r"(\w+(?:(?:, | and | or )\w+)*): +(?=\S)")
TAXONOMY = {"forget": "D_f", "corruption": "corruption", "retain": "D_r", "parameters": "parameters", "schedule": "schedule"}


# -- hooks -----------------------------------------------------------------------------------------------------------------


def on_config(config):
    """``tasks/`` in the navigation stands for the pages of all tasks, and so on."""
    for section in config.nav:
        for entries in section.values():
            for entry in entries if isinstance(entries, list) else ():
                [(title, target)] = entry.items()
                if target in KINDS:
                    entry[title] = [{"Overview": f"{target}index.md"}, *({name: f"{target}{name}.md"} for name in KINDS[target]())]
    return config


def on_files(files, config):
    from mkdocs.structure.files import File

    for path, text in pages().items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown, **_):
    return included(current(markdown))


def current(markdown):
    """A page without what it says of commands that are not there yet."""
    known = {*verbs(), *(option for verb in verbs().values() for action in verb._actions for option in action.option_strings)}
    return re.sub(r"^<!-- awaits: (\S+) -->\n(.*?)^<!-- end -->\n", lambda m: m[2] if m[1] in known else "", markdown, flags=re.M | re.S)


def included(markdown):
    """A page with what it includes."""
    return re.sub(r"^<!-- (readme|doc|ls): (.+) -->$", lambda m: {"readme": readme, "doc": documented, "ls": listed}[m[1]](m[2]), markdown,
                  flags=re.M)


def pages():
    """Path → Markdown of every generated page."""
    made = {"command_line.md": command_line(), "python.md": python()}
    for folder, (title, about, page, names) in {
            "tasks/": ("Tasks", "<!-- readme: Tasks -->", task, KINDS["tasks/"]()),
            "methods/": ("Methods", "<!-- readme: Methods -->\n\n## Hyperparameters of every method\n\n" + common(), method, KINDS["methods/"]()),
            "metrics/": ("Metrics", "<!-- readme: Metrics -->\n\n## Scores of tasks\n\n" + scores(), metric, KINDS["metrics/"]())}.items():
        made[f"{folder}index.md"] = f"# {title}\n\n{linked(included(about), folder)}\n"
        made |= {f"{folder}{name}.md": page(name) for name in names}
    return made


KINDS = {"tasks/": lambda: sorted(registry.tasks.modules, key=lambda name: (registry.tasks.get(name).tier, name)),
         "methods/": lambda: sorted(registry.methods.modules), "metrics/": lambda: [*METRICS]}


# -- pages -----------------------------------------------------------------------------------------------------------------


def task(name):
    task = load_task(name)
    card = {"tier": task.tier, "modality": task.modality, "source": task.source, "licence": task.licence, "citation": task.citation,
            "primary metric": f"`{task.metric}` {task.metric_options or ''}", "further measures": ", ".join(task.also),
            "random guess": "measured once, on the data" if task.random_guess is None else f"{task.random_guess:.3g}",
            "classes": f"{task.num_labels}: {', '.join(task.labels)}" if task.labels else "", "transfer set": task.transfer,
            "training rows": f"SHA-256 `{task.checksum}`" if task.checksum else "",
            "to get the data": getattr(task, "remedy", "") or ("`mubench fetch %s`" % name if task.archives else "ships with mubench")}
    models, cards = [], {}
    for model, declared in task.models.items():
        if (task.originals_dir(model) / originals.CARD).is_file():
            cards[model] = json.loads((task.originals_dir(model) / originals.CARD).read_text())
        size = f"{cards[model]['parameters']:,}" if model in cards else ""
        models.append({"model": f"`{model}`", "class": f"`{declared.architecture}`", "parameters": size,
                       "starts from": f"`{declared.pretrained}`" if declared.pretrained else "scratch",
                       "original": f"`{declared.original}`" if declared.original else "ships with mubench" if size else
                       f"`mubench original {name} --model {model} --train`"})
    recipes = {model: asdict(task.model_recipe(model)) for model in task.models}
    differ = [key for key in asdict(task.recipe) if key in ("lr", "epochs", "batch_size", "optimizer", "lr_schedule", "warmup")
              or len({str(r[key]) for r in recipes.values()}) > 1 or recipes[task.model()][key] != asdict(plain(task))[key]]
    return join(
        f"# {name}", re.sub(r"\btwin of (\w+)", r"twin of [\1](\1.md)", prose(task)), "## Data card", table([{"": k, " ": v} for k, v in card.items() if v]),
        "## Models", "The first is the default.", table(models), original_scores(cards),
        "## Recipe of the originals", "[What the numbers mean](../concepts.md#originals). `retrain` uses the same recipe on D_r.",
        table([{"model": f"`{model}`", **{key: shown(recipe[key]) for key in differ}} for model, recipe in recipes.items()]),
        "## Sizes", sizes(task), "## Methods that work here",
        ", ".join(f"[{m}](../methods/{m}.md)" for m in KINDS["methods/"]() if load_method(m).needs <= set(task.provides)),
        f"Declared in `{source(type(task))}`.")


def plain(task):
    """A recipe that sets nothing but what it must."""
    return type(task.recipe)(task.recipe.lr, task.recipe.epochs, task.recipe.batch_size)


def original_scores(cards):
    if not cards:
        return ""
    rows = [{"model": f"`{model}`", **{name: f"{100 * value:.1f}" for name, value in card["scores"].items()}} for model, card in cards.items()]
    return "Scores of the originals that ship, in per cent, from their cards:\n\n" + table(rows)


def sizes(task):
    """Rows of each set, and how many are forgotten at some ratios."""
    rows = dict(task.rows)
    validation = rows.pop("validation", None) or len(task.test_rows(rows["test"])[0])
    test = rows["test"] - (0 if "validation" in task.rows else validation)
    said = [table([{"set": "train (D)", "rows": f"{rows['train']:,}"}, {"set": "validation", "rows": f"{validation:,}"},
                   {"set": "test (D_t)", "rows": f"{test:,}"}, *([{"set": "transfer", "rows": f"{rows['transfer']:,}"}] if "transfer" in rows else [])])]
    if task.measured:
        said.append("Scored are at most " + ", ".join(f"{n:,} rows of {name}" for name, n in task.measured.items())
                    + ", the first by the [hash ranking](../concepts.md#splits).")
    if "units" not in {n for c in type(task).__mro__[:-1] if c.__module__.count(".") > 2 for n in vars(c)}:
        said.append(table([{"ratio": f"{ratio} %", "D_f": f"{(f := splits.forgotten(ratio, rows['train'])):,}", "D_r": f"{rows['train'] - f:,}"}
                           for ratio in RATIOS]))
    elif task.tier == "mini":
        said.append(f"The unit of deletion: {prose(type(task).units)}")
        made = [(ratio, task.split(ratio)) for ratio in RATIOS]
        said.append(table([{"ratio": f"{ratio} %", "units": splits.forgotten(ratio, len({*task.units()})), "D_f": f"{len(split.forget):,}",
                            "D_r": f"{split.n - len(split.forget):,}"} for ratio, split in made]))
    else:
        said.append(f"The unit of deletion: {prose(type(task).units)} `mubench split {task.name} --ratio 5` counts the rows, once the data are here.")
    return "\n\n".join(said)


def method(name):
    cls, made = registry.methods.get(name), load_method(name)
    own = {n: v for n, v in cls.defaults().items() if n not in Method.defaults() or v != Method.defaults()[n]}
    space = cls.space()
    terms = [{"on": "D_f" if t.on == "forget" else "D_r", "measure": f"`{t.measure}`", "target": f"`{t.target}`",
              "weight": f"{t.weight:g}", "epochs": "all" if t.when is always else re.sub(r"\(n=(\d+)\)", r" \1", repr(t.when)),
              "remarks": ", ".join(filter(None, [f"temperature {t.temperature:g}" if t.temperature != 1 else "", "redrawn in every epoch" if
                                                 t.redraw else "", f"formula `{t.how.__name__}`" if t.how else ""]))} for t in made.terms]
    tasks = {tier: [t for t in KINDS["tasks/"]() if registry.tasks.get(t).tier == tier and made.needs <= set(registry.tasks.get(t).provides)]
             for tier in ("mini", "paper")}
    hooks = [hook for hook in ("prepare", "penalty", "select", "after_epoch", "finish") if getattr(cls, hook) is not getattr(Method, hook)]
    works = {tier: ", ".join(f"[{t}](../tasks/{t}.md)" for t in names) or "none" for tier, names in tasks.items()}
    return join(
        f"# {name}", prose(cls), "## Paper", escape(cls.paper) or "None.",
        "## Row of the taxonomy", table([{TAXONOMY[k]: v for k, v in made.taxonomy().items()}]),
        "## Terms", "With the defaults; [what a term is](../concepts.md#terms)." if terms else "None.", table(terms),
        f"Hooks of its own: {', '.join(f'`{h}`' for h in hooks)}." if hooks else "",
        "## Hyperparameters", "The others are those [of every method](index.md#hyperparameters-of-every-method). `None`: as in the original's recipe.",
        table([{"name": f"`{n}`", "default": f"`{v!r}`", "searched by `mubench tune`": listing._choice(space[n]) if n in space else ""}
               for n, v in own.items()] + [{"name": f"`{n}`", "default": f"`{cls.defaults()[n]!r}`", "searched by `mubench tune`": listing._choice(c)}
                                           for n, c in space.items() if n not in own]),
        "LoRA: " + ("no, it starts from a new model." if cls.start == "fresh" else "yes, `--lora PERCENT`." if cls.adapts else "no, it edits the weights themselves."),
        "## Tasks it works on", f"It needs {', '.join(f'`{n}`' for n in sorted(made.needs)) or 'nothing'} of a task.",
        f"Mini: {works['mini']}.", f"Paper: {works['paper']}.", f"Declared in `{source(cls)}`.")


def common():
    own = [{"name": f"`{n}`", "default": f"`{v!r}`"} for n, v in Method.defaults().items()]
    return "`None`: as in the recipe of the original. What they mean:\n\n<!-- doc: mubench.recipe:Recipe -->\n\n" + table(own)


def metric(name):
    m = METRICS[name]
    better = {"higher": "higher", "lower": "lower", "retrain": "the closer to the retrained model's value the better"}
    facts = {"better": better.get(m.better, f"the closer to {m.better} the better"), "sets": ", ".join(m.needs),
             "columns of `predictions.parquet`": ", ".join(f"`{c}`" for c in m.columns), "facts of the result": ", ".join(f"`{f}`" for f in m.facts),
             "needs the retrained model's predictions": "yes" if m.retrain else "no"}
    return join(f"# {name}", prose(m.compute), "## What it is computed from", table([{"": k, " ": v} for k, v in facts.items() if v]),
                f"A pure function of stored predictions, in `{source(m.compute)}`; `mubench score RESULT` computes it again.")


def scores():
    """The primary metrics, one of which each task has."""
    from mubench.metrics.primary import PRIMARY

    used = {name: [t for t in KINDS["tasks/"]() if registry.tasks.get(t).metric == name] for name in PRIMARY}
    return join(*("\n\n".join([f"### {name}", prose(cls), "Of " + ", ".join(f"[{t}](../tasks/{t}.md)" for t in used[name]) + "."])
                  for name, cls in PRIMARY.items()))


def command_line():
    said = ["# Command line", "What `mubench VERB --help` prints."]
    for verb, sub in verbs().items():
        sub.formatter_class = lambda prog: argparse.RawDescriptionHelpFormatter(prog, width=100)
        said += [f"## {verb}", f"```text\n{sub.format_help().strip()}\n```"]
    return join(*said)


def python():
    import mubench

    said = ["# Python", "`import mubench` loads nothing heavy; each function loads what it needs."]
    for name in (name for name in API if name in mubench.__all__):
        function = getattr(mubench, name)
        signature = textwrap.fill(f"mubench.{name}{inspect.signature(function)}", 100, subsequent_indent=" " * len(f"mubench.{name}("))
        said += [f"## {name}", f"```text\n{signature}\n```", prose(function)]
    return join(*said)


def verbs():
    """Verb → its parser."""
    return next(action.choices for action in cli.parser()._actions if action.metavar == "VERB")


# -- pieces ----------------------------------------------------------------------------------------------------------------


def readme(heading):
    """What the README says between a heading and the next one, its listings as tables."""
    text = (ROOT / "README.md").read_text()
    bare = re.sub(r"^```.*?^```", lambda fence: re.sub(r"[^\n]", " ", fence[0]), text, flags=re.M | re.S)  # a comment there is no heading
    found = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#+ |\Z)", bare, re.M | re.S)
    if not found:
        raise ValueError(f"the README has no heading {heading!r}")
    body = re.sub(r"<!-- mubench ls (\w+) -->\n```text\n.*?```", lambda m: listed(m[1]), text[found.start(1):found.end(1)], flags=re.S)
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
    """Text with ``literals`` and *stress* as Markdown in which nothing else has a meaning but addresses, which become links."""
    parts = re.split(r"(``.+?``|`[^`\n]+`)", text, flags=re.S)
    return "".join("`" + " ".join(part.strip("`").split()) + "`" if i % 2 else _plain(part) for i, part in enumerate(parts))


def _plain(text):
    text = re.sub(r"\*\*(?=\w)", r"\*\*", text).replace("<", "&lt;")
    text = re.sub(r"https?://[^\s;,)]*[^\s;,.)]", r"[\g<0>](\g<0>)", text)
    text = re.sub(r"arXiv:(\d{4}\.\d{5})", r"[arXiv:\1](https://arxiv.org/abs/\1)", text)
    return re.sub(r"(?<=\bcode )[\w.-]+/[\w.-]*\w", r"[\g<0>](https://github.com/\g<0>)", text)


def table(rows):
    """Rows (dicts of the same keys) as a Markdown table; columns that are empty in all rows are left out."""
    if not rows:
        return ""
    keys = [key for key in rows[0] if any(str(row[key]).strip() for row in rows)]
    cell = lambda value: (str(value) if "](" in str(value) else escape(str(value))).replace("|", "\\|").replace("\n", " ") or " "
    line = lambda cells: "| " + " | ".join(cells) + " |"
    return "\n".join([line(key or " " for key in keys), line("---" for _ in keys), *(line(cell(row[key]) for key in keys) for row in rows)])


def shown(value):
    return "`" + (f"{value:g}" if isinstance(value, float) else str(value)) + "`"


def source(thing):
    return Path(inspect.getfile(thing)).resolve().relative_to(ROOT.resolve())


def join(*parts):
    return "\n\n".join(part for part in map(str, parts) if part.strip()) + "\n"
