"""The 1,797 handwritten digits inside this package (8 x 8, values 0 to 16); see DIGITS-LICENCE.txt."""

import pathlib

from nbprop.data.arrays import read_arrays
from nbprop.data.dataset import Dataset, Scaling

__all__ = ["digits"]

_TRAIN = 1437
_SCALING = Scaling(1 / 16, (0.305,), (0.376,))  # of the training part


def digits():
    """Return (train, test): 1,437 and 360 digits, a fixed split.

    The file holds them in the order of one random permutation, drawn without regard to the classes; the first
    1,437 are for training.
    """
    arrays = read_arrays(pathlib.Path(__file__).with_name("digits.npz"))
    images, labels = arrays["images"], arrays["labels"]
    train, test = slice(None, _TRAIN), slice(_TRAIN, None)
    return tuple(Dataset(images[part], labels[part], _SCALING) for part in (train, test))
