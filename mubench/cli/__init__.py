"""The command line: each verb is one public function. Nothing is imported before it is needed."""

import atexit
import contextlib
import gc
import sys

from mubench.cli import catalogue, checks, results, runs, tasks
from mubench.cli.declare import build
from mubench.cli.quiet import environment, quiet, replacing
from mubench.errors import MubenchError

VERBS = (
    catalogue.ls,
    runs.run,
    runs.tune,
    runs.ablate,
    tasks.fetch,
    results.evaluate,
    results.score,
    tasks.split,
    tasks.original,
    catalogue.check,
    catalogue.new,
    results.submit,
    results.board,
    results.report,
)


def main(argv=None):
    """Run a command line; afterwards environment, warnings and loggers of this process are as they were.

    argv: its words (default: those of this process).

    Returns when done; exits 1 with one sentence on an error, 2 on wrong usage, 130 on Ctrl-C.
    """
    atexit.register(gc.freeze)  # a process that ends need not look for dead objects first: a second of its time
    with replacing():
        args = parser().parse_args(argv)
        try:
            if getattr(args, "sweep", None):
                from mubench.sweep import sweep_file

                args = parser(sweep_file.read(args.sweep, args.parser, args.actions)).parse_args(argv)
            _do(args)
        except BrokenPipeError:
            sys.stderr.close()
        except (Exception, KeyboardInterrupt) as error:
            if args.debug:
                raise
            _explain(error)


def parser(sweep=None):
    """The whole command line, an ``argparse.ArgumentParser``.

    sweep: values that take the place of `mubench run`'s defaults.
    """
    return build(VERBS, {"run": sweep or {}})[0]


def verbs():
    """Verb → its own parser, with its usage and help."""
    return build(VERBS)[1]


def _do(args):
    checks.check(args)
    with contextlib.ExitStack() as stack:
        if not args.debug:
            stack.enter_context(quiet())
        if getattr(args, "data_dir", None):
            stack.enter_context(environment(MUBENCH_DATA=args.data_dir))  # workers inherit it
        args.function(args)
        sys.stdout.flush()


def _explain(error):
    """Exit with one sentence about an error."""
    if isinstance(error, MubenchError):
        sys.exit(f"mubench: {error}")
    if isinstance(error, KeyboardInterrupt):
        print("\nmubench: interrupted; what was finished is kept, the same command goes on from there", file=sys.stderr)
        sys.exit(130)
    sys.exit(
        f"mubench: {type(error).__name__}: {str(error).strip() or 'no message'} (an error of mubench or of a plug-in,"
        " not yours: --debug shows where)"
    )


if __name__ == "__main__":
    main()
