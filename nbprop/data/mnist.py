"""MNIST, and sets of the same form (Fashion-MNIST, KMNIST): four IDX files in a folder."""

import pathlib

from nbprop.data.dataset import Dataset, Scaling
from nbprop.data.idx import read_idx

__all__ = ["find_mnist", "mnist"]

_SCALING = Scaling(1 / 255, (0.1307,), (0.3081,))  # of MNIST's 60,000 training images


def mnist(folder, scaling=_SCALING):
    """Return (train, test) of MNIST's four files, found in `folder` or in its MNIST/raw, plain or .gz.

    Raises
    ------
    FileNotFoundError, ValueError
        If one is missing or damaged, or images and labels do not agree.
    """
    return tuple(_part(pathlib.Path(folder), part, scaling) for part in ("train", "t10k"))


def find_mnist(folder, part, kind):
    """Return the path of one of the four files (part train or t10k, kind images-idx3 or labels-idx1), or "
      "None."""
    for place in (folder, folder / "MNIST" / "raw"):
        for name in (f"{part}-{kind}-ubyte", f"{part}-{kind.replace('-', '.')}-ubyte"):
            for path in (place / name, place / f"{name}.gz"):
                if path.is_file():
                    return path
    return None


def _part(folder, part, scaling):
    paths = []
    for kind in ("images-idx3", "labels-idx1"):
        path = find_mnist(folder, part, kind)
        if path is None:
            raise FileNotFoundError(f"{folder} has no file {part}-{kind}-ubyte or {part}-{kind}-ubyte.gz; "
                                    "expected MNIST's four files: name their folder with --data, or "
                                    "data.mnist(folder)")
        paths.append(path)
    images, labels = map(read_idx, paths)
    if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels):
        raise ValueError(f"{paths[0]} holds an array of shape {images.shape} and {paths[1]} of "
                         f"{labels.shape}; expected (N, H, W) and (N,): the files do not belong together")
    return Dataset(images, labels, scaling)
