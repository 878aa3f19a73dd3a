"""How verbs of the command line are declared: a function, and as data what its arguments are."""

import argparse
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass

from mubench.cli import checks
from mubench.errors import MubenchError
from mubench.spec import RunSpec

EPILOG = "Every verb has an example in `mubench VERB --help`."
FIRST = {"model": "its first"}  # what stands for the default of a field in its help, where it depends on the task
PLACES = {"ratio": checks.ratio, "split_file": checks.index_file, "checkpoint": checks.checkpoint}  # fields → checks


@dataclass(frozen=True)
class Verb:
    """A verb of the command line.

    name: as it is typed.
    about: what it does, for `mubench --help`.
    example: a command line.
    arguments: what `argument` gives, each.
    function: of the parsed arguments; does it.
    data: whether it reads data of paper tasks, and so takes ``--data-dir``.
    """

    name: str
    about: str
    example: str
    arguments: tuple
    function: Callable
    data: bool = False


def verb(about, example, *arguments, data=False):
    """Make a function the verb of its name; the parameters are the fields of `Verb`."""
    return lambda function: Verb(function.__name__, about, example, arguments, function, data)


def argument(*names, check=None, **options):
    """An argument of a verb, as ``argparse.ArgumentParser.add_argument`` takes it.

    check: what its values must be, one of `checks`; numbers, files and folders have one.
    """
    return names, options | {"check": check}


DATA_DIR = argument(
    "--data-dir",
    metavar="FOLDER",
    check=checks.existing_folder,
    help="where the original archives of paper tasks are unpacked, in FOLDER or FOLDER/TASK ($MUBENCH_DATA)",
)

ATTACK = argument(
    "--attack",
    nargs="+",
    default=[],
    metavar="PROBE",
    help="what to do to the unlearned model besides evaluating it: a name or file.py:Class, with ,OPTION=VALUE",
)


def build(verbs, defaults=None):
    """The parser of the whole command line, and verb → its own.

    verbs: `Verb` each, in the order of the help.
    defaults: verb → values that take the place of its arguments' defaults.

    What is parsed has more than the arguments: the verb's ``function``, its ``parser``, and name of an argument →
    argparse's action, ``actions``, and name → (how the argument is shown, its check), ``checks``.
    """
    top = argparse.ArgumentParser(
        prog="mubench", description="The benchmark suite for machine unlearning.", epilog=EPILOG
    )
    top.add_argument("--version", action=_Version)
    choices, parsers = top.add_subparsers(metavar="VERB", required=True), {}
    for each in verbs:
        p = parsers[each.name] = choices.add_parser(
            each.name,
            help=each.about,
            description=each.about,
            epilog=f"example: {each.example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        p.add_argument("--debug", action="store_true", help="show tracebacks and library warnings")
        arguments = ([DATA_DIR] if each.data else []) + list(each.arguments)
        actions, checked = {}, {}
        for names, options in arguments:
            check, options = options["check"], {name: v for name, v in options.items() if name != "check"}
            action = p.add_argument(*names, **options)
            actions[action.dest] = action
            if check:
                checked[action.dest] = (names[-1] if action.option_strings else action.metavar, check)
        p.set_defaults(function=each.function, parser=p, actions=actions, checks=checked)
        p.set_defaults(**(defaults or {}).get(each.name, {}))
    return top, parsers


# -- flags for fields of `RunSpec`: their names, types, choices and help are the field's own


def fields(*names, many=()):
    """An argument for each of these fields of `RunSpec`; those in ``many`` take several values."""
    return [_field(name, name in many) for name in names]


def all_fields(*without, many=()):
    """An argument for each field of `RunSpec` but task, method, params and those ``without``."""
    return fields(
        *(name for name in RunSpec.model_fields if name not in ("task", "method", "params", *without)), many=many
    )


def _field(name, several):
    field = RunSpec.model_fields[name]
    kinds = [kind for kind in _kinds(field.annotation) if kind is not type(None)]
    literal = len(kinds) == 1 and typing.get_origin(kinds[0]) is typing.Literal
    choices = typing.get_args(kinds[0]) if literal else None
    default = FIRST.get(name, None if field.is_required() else field.default)
    about = field.description + (f" (default: {default})" if default is not None else "")
    return argument(
        f"--{name.replace('_', '-')}",
        nargs="+" if several else None,
        choices=choices,
        help=about.replace("%", "%%"),
        type=kinds[0] if kinds in ([int], [float]) else str,
        check=PLACES.get(name, None if choices or kinds == [str] else checks.of_field(RunSpec, name)),
        metavar=None if choices else name.rpartition("_")[2].upper(),
    )


def _kinds(annotation):
    """The types that a field may have."""
    several = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    return typing.get_args(annotation) if several else [annotation]


# -- what verbs do with their arguments


def picked(args, *names):
    """Some of the parsed arguments, name → value."""
    return {name: getattr(args, name) for name in names}


def spec_options(args, *without):
    """What `make_spec` takes besides task, model, method, ratio, seed and those ``without``."""
    params = dict(_pair(text) for text in args.set)
    params |= {"optimizer": args.optimizer} if args.optimizer else {}
    others = [
        name
        for name in RunSpec.model_fields
        if name in args and name not in ("task", "method", "model", "ratio", "seed", *without)
    ]
    return {"params": params, **picked(args, *others)}


def _pair(text):
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise MubenchError(f"--set {text!r}: write NAME=VALUE, such as lr=1e-4")
    return name, value


class _Version(argparse.Action):
    def __init__(self, option_strings, dest, **_):
        super().__init__(option_strings, dest, nargs=0, help="show the version")

    def __call__(self, parser, *_):
        import mubench

        print(f"mubench {mubench.__version__}")
        parser.exit()
