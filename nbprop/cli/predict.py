"""nbprop predict: the class of each image in a file."""

import sys

import numpy as np

__all__ = ["add_parser"]


def add_parser(commands):
    """Add the command."""
    from nbprop.cli.limits import add_device

    parser = commands.add_parser(
        "predict", help="name the classes of images",
        description="Print a line for each image: its number, its class and the probability of that class.")
    parser.add_argument("folder", metavar="RUN", help="run folder, as nbprop train wrote it")
    parser.add_argument("file", metavar="FILE", help="images in an .npy, .npz or IDX file (plain or .gz), in "
                                                     "the training images' shape and range of values")
    parser.add_argument("--threads", type=int, metavar="N")
    add_device(parser)
    parser.set_defaults(run=run)


def run(args):
    """Print number, class and probability, tab-separated."""
    from nbprop import data
    from nbprop.cli.limits import use_device, use_threads
    from nbprop.cli.runs import open_run

    use_threads(args.threads)
    trainer, config = open_run(args.folder, use_device(args.device))
    images = _as_trained(data.load_images(args.file), config, args.file)
    dataset = data.Dataset(images, scaling=data.Scaling(**config["scaling"]))
    scores = trainer.predict(dataset, config["batch_size"])
    scores = np.exp(scores - scores.max(axis=1, keepdims=True))
    best = scores.argmax(axis=1)
    sure = scores.max(axis=1) / scores.sum(axis=1)
    sys.stdout.writelines(f"{i}\t{c}\t{p:.4f}\n" for i, (c, p) in enumerate(zip(best, sure)))


def _as_trained(images, config, file):
    """Bring images to the shape and the kind of values that the model was trained on, or refuse them."""
    wanted, whole = tuple(config["input_shape"]), config["input_dtype"] == "uint8"
    if images.shape in (wanted, wanted[1:]):
        images = images[None]  # one image alone
    if images.ndim == 3 and len(wanted) == 3:
        images = images[:, None]
    if images.shape[1:] != wanted:
        raise ValueError(f"{file} holds an array of shape {images.shape}; expected (N, "
                         f"{', '.join(map(str, wanted))}), as the training images")
    if whole and images.dtype != np.uint8:
        bytes_ = images.clip(0, 255).astype(np.uint8) if images.dtype.kind in "iuf" else None
        if bytes_ is None or not np.array_equal(bytes_, images):
            raise ValueError(f"{file} holds values of {images.dtype}; expected whole numbers from 0 to 255, "
                             "as the training images")
        return bytes_
    if not whole and images.dtype.kind != "f":
        raise ValueError(f"{file} holds values of {images.dtype}; expected {config['input_dtype']}, as the "
                         "training images")
    return images
