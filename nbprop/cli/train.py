"""nbprop train: fit a network to the digits, MNIST, CIFAR-10 or arrays of the user's."""

import pathlib

__all__ = ["add_parser"]

_EPOCHS = {"mnist": 3}  # else 10
_RATES = {"adamw": 3e-3, "adam": 3e-3, "sgd": 0.05}


def add_parser(commands):
    """Add the command."""
    from nbprop.cli.limits import add_device

    parser = commands.add_parser(
        "train", help="train a network",
        description="Train a network and keep it in a run folder: weights, settings, history and curves.")
    parser.add_argument("dataset", help="digits (inside this package), mnist, cifar10, or the path of an "
                                        ".npz file or of a folder with the files of MNIST, of CIFAR-10 or "
                                        ".npy files")
    parser.add_argument("--data", metavar="DIR", help="folder with the files of mnist or cifar10")
    parser.add_argument("--model", choices=("cnn", "mlp", "lenet"), help="default: cnn (mlp for vectors)")
    parser.add_argument("--epochs", type=int, metavar="N", help="default: 10, for mnist 3")
    parser.add_argument("--batch-size", type=int, default=64, metavar="N", help="default: 64")
    parser.add_argument("--lr", type=float, metavar="RATE",
                        help="highest learning rate; default: 0.003, with sgd 0.05")
    parser.add_argument("--optimizer", choices=tuple(_RATES), default="adamw",
                        help="default: adamw; sgd has a momentum of 0.9")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="default: 0")
    parser.add_argument("--threads", type=int, metavar="N", help="default: all that the machine or container "
                                                                 "gives")
    add_device(parser)
    parser.add_argument("--out", metavar="RUN", help="run folder; default: a new one in runs/")
    parser.add_argument("--plot", action="store_true", help="insist on curves.png: an error without "
                                                            "matplotlib")
    parser.set_defaults(run=run)


def run(args):
    """Train as the arguments say, then print the accuracy on the test images."""
    from nbprop import data, nn
    from nbprop.cli.limits import use_device, use_threads
    from nbprop.nn.init import manual_seed
    from nbprop.schedule import cosine
    from nbprop.trainer import Trainer

    if args.plot:
        _want_matplotlib()
    use_threads(args.threads)
    device = use_device(args.device)
    train, test = data.load(args.dataset, args.data)
    manual_seed(args.seed)
    name, arguments, model = _model(args.model, train, test)
    folder = pathlib.Path(args.out) if args.out else _new_folder(args.dataset, name)
    source = args.data and str(pathlib.Path(args.data).absolute())
    config = {"dataset": _lasting(args.dataset), "data": source, "model": name, "model_arguments": arguments}
    loss, optimizer = nn.CrossEntropyLoss(), _optimizer(args, model)
    trainer = Trainer(model, loss, optimizer, args.seed, folder, schedule=cosine(), config=config, device=device)
    epochs = _EPOCHS.get(args.dataset, 10) if args.epochs is None else args.epochs
    last = trainer.fit(train, test, epochs, args.batch_size)[-1]
    print(f"test accuracy {last['validation_accuracy']:.2%} on {len(test):,} images; the run is in {folder}")


def _model(name, train, test):
    """Return (name, arguments, model) for data of this shape."""
    from nbprop import models

    if train.classes is None or test.classes is None:
        raise ValueError(f"labels have dtype {train.labels.dtype}; expected class numbers of an integer "
                         "dtype")
    shape = train.images.shape[1:]
    if test.images.shape[1:] != shape:
        raise ValueError(f"test images have shape {test.images.shape[1:]}; expected {shape}, as the training "
                         "images")
    if len(shape) == 1 and name not in (None, "mlp"):
        raise ValueError(f"model is {name} and the data are vectors of {shape[0]} values; expected --model "
                         "mlp")
    name = name or ("mlp" if len(shape) == 1 else "cnn")
    size = list(shape[1:]) if len(shape) == 3 else 1
    arguments = {"channels": shape[0], "size": size, "classes": max(train.classes, test.classes)}
    return name, arguments, getattr(models, name)(**arguments)


def _optimizer(args, model):
    from nbprop import optim

    rate = _RATES[args.optimizer] if args.lr is None else args.lr
    if args.optimizer == "sgd":
        return optim.SGD(model.parameters(), rate, momentum=0.9)
    return {"adam": optim.Adam, "adamw": optim.AdamW}[args.optimizer](model.parameters(), rate)


def _new_folder(dataset, model):
    """Return runs/DATASET-MODEL-N with the first free number N."""
    stem = f"{pathlib.Path(dataset).stem}-{model}"
    number = 1
    while (folder := pathlib.Path("runs", f"{stem}-{number}")).exists():
        number += 1
    return folder


def _lasting(dataset):
    """Name a dataset so that it is found from any folder."""
    return dataset if dataset in ("digits", "mnist", "cifar10") else str(pathlib.Path(dataset).absolute())


def _want_matplotlib():
    import importlib.util

    if importlib.util.find_spec("matplotlib") is None:
        raise ValueError("--plot needs matplotlib, which is not installed: pip install 'nbprop[plot]'")
