"""CIFAR-10's binary form: records of one label byte and 3,072 pixel bytes, a red, a green and a blue plane.

Krizhevsky 2009, https://www.cs.toronto.edu/~kriz/cifar.html
"""

import pathlib

import numpy as np

from nbprop import layout
from nbprop.data.dataset import Dataset, Scaling

__all__ = ["CLASSES", "cifar10", "find_cifar10"]

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_TRAIN = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
_RECORD = 1 + 3 * 32 * 32
_SCALING = Scaling(1 / 255, (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))  # of the training pictures


def cifar10(folder):
    """Return (train, test) of the six .bin files, found in `folder` or in its cifar-10-batches-bin.

    Raises
    ------
    FileNotFoundError, ValueError
        If one is missing or damaged.
    """
    place = find_cifar10(pathlib.Path(folder)) or pathlib.Path(folder)
    return _read([place / name for name in _TRAIN]), _read([place / "test_batch.bin"])


def find_cifar10(folder):
    """Return the folder that holds the files, or None."""
    for place in (folder, folder / "cifar-10-batches-bin"):
        if any((place / name).is_file() for name in (*_TRAIN, "test_batch.bin")):
            return place
    return None


def _read(paths):
    parts = [_records(path) for path in paths]
    labels = np.concatenate([part[:, 0] for part in parts])
    images = np.empty((len(labels), 32, 32, 3), np.uint8)
    start = 0
    for part in parts:
        planes = part[:, 1:].reshape(-1, 3, 32, 32)
        images[start : start + len(part)] = planes.transpose(0, 2, 3, 1)
        start += len(part)
    return Dataset(layout.nchw(images), labels, _SCALING)


def _records(path):
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; expected CIFAR-10's binary files data_batch_1.bin to "
                                "data_batch_5.bin and test_batch.bin: name their folder with --data, or "
                                "data.cifar10(folder)")
    values = np.fromfile(path, np.uint8)
    if not len(values) or len(values) % _RECORD:
        raise ValueError(f"{path} has {len(values):,} bytes; expected a multiple of {_RECORD:,} (30,730,000 "
                         "in the original): it is cut or damaged, fetch it again")
    records = values.reshape(-1, _RECORD)
    if records[:, 0].max() >= len(CLASSES):
        raise ValueError(f"{path} has a label of {records[:, 0].max()}; expected 0 to 9: it is damaged or "
                         "not CIFAR-10's binary form, fetch it again")
    return records
