"""A hook of MkDocs: pages of tasks, methods, metrics and the command line, made from the declarations and docstrings.

A page may also hold a line ``<!-- readme: Heading -->`` (that section of the README), ``<!-- doc: module:name -->`` (a
docstring, of the module without a name) or ``<!-- ls: kind -->`` (a listing as a table); so nothing is typed twice.
"""

import re

from _markdown import documented, join, listed, readme
from _method_page import common_hyperparameters, method_page
from _metric_page import metric_page, scores_of_tasks
from _names import PAGES
from _reference_pages import command_line, python
from _task_page import task_page

__all__ = ["included", "on_config", "on_files", "on_page_markdown", "pages"]
INCLUDE = {"readme": readme, "doc": documented, "ls": listed}


# -- hooks
# ---------------------------------------------------------------------------------------------------------------


def on_config(config):
    """``tasks/`` in the navigation stands for the pages of all tasks, and so on."""
    for section in config.nav:
        for entries in section.values():
            for entry in entries if isinstance(entries, list) else ():
                [(title, target)] = entry.items()
                if target in PAGES:
                    names = [{name: f"{target}{name}.md"} for name in PAGES[target]()]
                    entry[title] = [{"Overview": f"{target}index.md"}, *names]
    return config


def on_files(files, config):
    from mkdocs.structure.files import File

    for path, text in pages().items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown, **_):
    return included(markdown)


# -- pages
# ---------------------------------------------------------------------------------------------------------------


def included(markdown):
    """A page with what it includes."""
    return re.sub(r"^<!-- (readme|doc|ls): (.+) -->$", lambda line: INCLUDE[line[1]](line[2]), markdown, flags=re.M)


def pages():
    """Path → Markdown of every generated page."""
    made = {
        "command_line.md": command_line(),
        "python.md": python(),
        "tasks/index.md": overview("Tasks", "tasks/"),
        "methods/index.md": overview(
            "Methods", "methods/", "## Hyperparameters of every method", common_hyperparameters()
        ),
        "metrics/index.md": overview("Metrics", "metrics/", "## Scores of tasks", scores_of_tasks()),
    }
    for folder, page in (("tasks/", task_page), ("methods/", method_page), ("metrics/", metric_page)):
        made |= {f"{folder}{name}.md": page(name) for name in PAGES[folder]()}
    return made


def overview(title, folder, *more):
    """The first page of a folder: what the README says, names in the first column of its tables linked to their
    pages.
    """
    names = "|".join(PAGES[folder]())
    text = join(f"# {title}", readme(title), *more)
    return re.sub(rf"^\| `?({names})`? \|", r"| [\1](\1.md) |", text, flags=re.M)
