"""nbprop explain: what an op computes, where it comes from, and how its gradient is derived."""

__all__ = ["add_parser"]


def add_parser(commands):
    """Add the command."""
    parser = commands.add_parser(
        "explain", help="show an op's formula, its source and its gradient's derivation",
        description="Show an op's formula, the seed document and equation it comes from, its symbols, the "
                    "derivation of its gradient, and its reference kernel. Without OP: list all ops by seed.")
    parser.add_argument("op", nargs="?", metavar="OP", help="such as relu, Conv2d or conv2d_backward_input")
    parser.set_defaults(run=run)


def run(args):
    """Print the entry, or the list."""
    from nbprop import explain

    print(explain.listing() if args.op is None else explain.text(args.op))
