"""nbprop gradcheck: the gradients of a run's model, and the adjoints of its linear layers."""

import numpy as np

__all__ = ["add_parser"]


def add_parser(commands):
    """Add the command."""
    parser = commands.add_parser(
        "gradcheck", help="check the gradients of a trained network",
        description="In float64, on random images: compare the gradients by the input and by each parameter "
                    "with central differences, and <f(x), dy> with <x, f^T dy> for every linear layer.")
    parser.add_argument("folder", metavar="RUN", help="run folder, as nbprop train wrote it")
    parser.add_argument("--batch-size", type=int, default=2, metavar="N", help="random images; default: 2")
    parser.add_argument("--entries", type=int, default=50, metavar="N",
                        help="entries to check of the input and of each parameter; default: 50")
    parser.add_argument("--tolerance", type=float, default=1e-6, metavar="ERROR", help="default: 1e-6")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="default: 0")
    parser.add_argument("--threads", type=int, metavar="N")
    parser.set_defaults(run=run)


def run(args):
    """Print the worst entry, and a line for each linear layer; a wrong gradient is an error."""
    from nbprop import shapes
    from nbprop.cli.limits import use_threads
    from nbprop.cli.runs import open_run
    from nbprop.gradient_check import adjoint_errors, gradcheck

    use_threads(args.threads)
    trainer, config = open_run(args.folder)
    shape = (shapes.integer("--batch-size", args.batch_size, 1), *config["input_shape"])
    x = np.random.default_rng(args.seed).standard_normal(shape)
    entries = shapes.integer("--entries", args.entries, 1)
    worst = gradcheck(trainer.model, x, args.tolerance, entries=entries, seed=args.seed)
    print(f"central differences: the worst entry is {worst.layer} {worst.name} at {worst.index}: "
          f"{worst.analytic:.9g} against {worst.numeric:.9g}, error {worst.error:.1e}")
    for name, layer, error in adjoint_errors(trainer.model, x, args.seed):
        print(f"adjoint: {name} {type(layer).__name__}, error {error:.1e}")
