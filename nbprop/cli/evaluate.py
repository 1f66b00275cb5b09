"""nbprop evaluate: loss and accuracy of a run's model on its test images."""

__all__ = ["add_parser"]


def add_parser(commands):
    """Add the command."""
    from nbprop.cli.limits import add_device

    parser = commands.add_parser("evaluate", help="measure a trained network on its test images")
    parser.add_argument("folder", metavar="RUN", help="run folder, as nbprop train wrote it")
    parser.add_argument("--data", metavar="DIR", help="folder with the data's files, if they have moved")
    parser.add_argument("--threads", type=int, metavar="N")
    add_device(parser)
    parser.set_defaults(run=run)


def run(args):
    """Print loss and accuracy."""
    from nbprop import data
    from nbprop.cli.limits import use_device, use_threads
    from nbprop.cli.runs import open_run

    use_threads(args.threads)
    trainer, config = open_run(args.folder, use_device(args.device))
    name = config.get("dataset")
    if name is None and args.data is None:
        raise ValueError(f"{args.folder} does not say which data it was trained on; expected --data DIR")
    named = name in ("digits", "mnist", "cifar10")
    _, test = data.load(name, args.data or config.get("data")) if named else data.load(args.data or name)
    test = data.Dataset(test.images, test.labels, data.Scaling(**config["scaling"]))
    result = trainer.evaluate(test, config["batch_size"])
    print(f"test loss {result['loss']:.4f}, accuracy {result['accuracy']:.2%} on {len(test):,} images")
