"""The command `nbprop`: one file per sub-command, each with `add_parser(subparsers)`."""

import argparse
import sys

from nbprop.version import __version__

__all__ = ["main"]


def main(argv=None):
    """Run a command; return its exit code: 0, 2 if the input cannot be used, 130 if the user stopped it."""
    args = _parser().parse_args(argv)
    try:
        return args.run(args) or 0
    except (ValueError, OSError, ArithmeticError, MemoryError) as e:
        print(f"nbprop {args.command}: {_sentence(e)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"nbprop {args.command}: stopped; a run folder holds the last finished epoch", file=sys.stderr)
        return 130


def _parser():
    from nbprop.bench import cli as bench
    from nbprop.bench import roofline
    from nbprop.cli import doctor, evaluate, explain, gradcheck, predict, train, warmup

    parser = argparse.ArgumentParser("nbprop", description="Neural networks in Python, compiled by Numba.")
    parser.add_argument("--version", action="version", version=f"nbprop {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in (train, evaluate, predict, gradcheck, explain, bench, roofline, warmup, doctor):
        command.add_parser(commands)
    return parser


def _sentence(error):
    """The system's own errors say what and where in attributes; ours are sentences already."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)
