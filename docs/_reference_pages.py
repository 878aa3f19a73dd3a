"""The pages of the command line and of Python, from the parsers and signatures."""

import argparse
import inspect
import textwrap

from _markdown import join, prose

import mubench
from mubench import cli

WIDTH = 100  # characters of a line


def command_line():
    parts = ["# Command line", "What `mubench VERB --help` prints."]
    for verb, parser in cli.verbs().items():
        parser.formatter_class = lambda prog: argparse.RawDescriptionHelpFormatter(prog, width=WIDTH)
        parts += [f"## {verb}", f"```text\n{parser.format_help().strip()}\n```"]
    return join(*parts)


def python():
    parts = ["# Python", "`import mubench` loads nothing heavy; each function loads what it needs."]
    for name in filter(str.islower, mubench.__all__):
        function = getattr(mubench, name)
        indent = " " * len(f"mubench.{name}(")
        signature = textwrap.fill(f"mubench.{name}{inspect.signature(function)}", WIDTH, subsequent_indent=indent)
        parts += [f"## {name}", f"```text\n{signature}\n```", prose(function)]
    return join(*parts)
