"""Find out what kind of data a name or a path means."""

import pathlib

from nbprop.data.arrays import named_parts, read_images
from nbprop.data.cifar10 import cifar10, find_cifar10
from nbprop.data.digits import digits
from nbprop.data.idx import read_idx
from nbprop.data.mnist import find_mnist, mnist

__all__ = ["load", "load_images"]


def load(name, folder=None):
    """Return (train, test) of digits, mnist or cifar10 (the last two from `folder`), or of a path.

    A path is an .npz file, or a folder with MNIST's four files, CIFAR-10's six, or .npy files.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is nothing of that kind, or a file is missing or damaged.
    """
    if name == "digits":
        return digits()
    if name in ("mnist", "cifar10"):
        if folder is None:
            raise ValueError(f"--data is missing; expected the folder with the files of {name} (they are not "
                             "downloaded)")
        if not pathlib.Path(folder).is_dir():
            raise FileNotFoundError(f"{folder} is not a folder; expected the one with the files of {name}")
        return mnist(folder) if name == "mnist" else cifar10(folder)
    path = pathlib.Path(name)
    if not path.exists():
        raise FileNotFoundError(f"{name} is neither digits, mnist or cifar10 nor an existing file or folder")
    if path.is_dir():
        if find_mnist(path, "train", "images-idx3"):
            return mnist(path)
        if find_cifar10(path):
            return cifar10(path)
        if not any(path.glob("*.npy")):
            raise FileNotFoundError(f"{path} has none of MNIST's, CIFAR-10's or .npy files; expected a "
                                    "dataset in it")
    return named_parts(path)


def load_images(path):
    """Return the array of images in an .npy, .npz or IDX file (plain or .gz)."""
    path = pathlib.Path(path)
    if path.suffix.lower() in (".npy", ".npz"):
        return read_images(path)
    if path.suffix.lower() in (".png", ".jpg", ".jpeg", ".bmp", ".gif"):
        raise ValueError(f"{path} is a picture file; expected an .npy, .npz or IDX file: save its pixels "
                         "with np.save")
    return read_idx(path)
