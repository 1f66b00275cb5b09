"""NumPy's own files: .npz, .npy, or a folder of .npy."""

import pathlib
import zipfile
import zlib

import numpy as np

from nbprop.data.dataset import Dataset, Scaling

__all__ = ["named_parts", "read_arrays", "read_images"]

# The names under which people keep images and labels: of a training part, of a test part, or of all together.
_TRAIN = (("x_train", "y_train"), ("train_images", "train_labels"), ("X_train", "y_train"))
_TEST = (("x_test", "y_test"), ("test_images", "test_labels"), ("X_test", "y_test"))
_ALL = (("images", "labels"), ("x", "y"), ("X", "y"), ("data", "target"), ("data", "labels"))
_HELD_OUT = 5  # of a set that is not split: every fifth image, after a fixed shuffle, is for testing


def read_arrays(path):
    """Return {name: array} of an .npz file, of a folder's .npy files, or of one .npy file.

    Raises
    ------
    FileNotFoundError, ValueError
        If the file is missing, cut, of another kind, or holds Python objects (which could run code).
    """
    path = pathlib.Path(path)
    if path.is_dir():
        return {file.stem: _load(file) for file in sorted(path.glob("*.npy"))}
    loaded = _load(path)
    return loaded if isinstance(loaded, dict) else {path.stem: loaded}


def named_parts(path):
    """Return (train, test) from the arrays at `path`, told apart by their names.

    x_train, y_train, x_test, y_test (or train_images, train_labels, ...) are taken as they are; images,
    labels (or x, y, ...) alone are split 4 to 1 by a fixed shuffle.
    """
    arrays = read_arrays(path)
    train, test, together = (_pair(arrays, names) for names in (_TRAIN, _TEST, _ALL))
    if train is None or test is None:
        if together is None:
            raise ValueError(f"{path} holds arrays named {sorted(arrays)}; expected x_train, y_train, "
                             "x_test, y_test, or images, labels: rename them with np.savez")
        images, labels = together
        if len(labels) != len(images):
            raise ValueError(f"{path} holds {len(images)} images and {len(labels)} labels; expected as many "
                             "of each")
        order = np.random.default_rng(0).permutation(len(images))
        first = len(order) - len(order) // _HELD_OUT
        train, test = ((images[part], labels[part]) for part in (order[:first], order[first:]))
    for images, _ in (train, test):
        _refuse_nhwc(path, images)
    scaling = _measured(Dataset(*train))
    return Dataset(*train, scaling), Dataset(*test, scaling)


def read_images(path):
    """Return the one array of images in an .npy or .npz file."""
    arrays = read_arrays(path)
    if len(arrays) == 1:
        return next(iter(arrays.values()))
    for name in ("images", "x", "X", "data", "x_test", "test_images"):
        if name in arrays:
            return arrays[name]
    raise ValueError(f"{path} holds arrays named {sorted(arrays)}; expected one array, or one named images")


def _load(path):
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; expected an .npz or .npy file there")
    try:
        with open(path, "rb") as file:
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.lib.npyio.NpzFile):
                return {name: loaded[name] for name in loaded.files}
            return loaded
    except (ValueError, EOFError, OSError, zipfile.BadZipFile, zlib.error) as e:
        reason = str(e).splitlines()[0] if str(e) else type(e).__name__
        raise ValueError(f"{path} ({path.stat().st_size:,} bytes) cannot be read as NumPy arrays ({reason}): "
                         "it is cut, damaged or another kind of file") from None


def _pair(arrays, names):
    for images, labels in names:
        if images in arrays and labels in arrays:
            return arrays[images], arrays[labels]
    return None


def _refuse_nhwc(path, images):
    rest = images.shape[1:]
    if len(rest) == 3 and rest[2] in (1, 3) and rest[0] > 3:
        raise ValueError(f"{path} holds images of shape {images.shape}, which look like NHWC; expected (N, "
                         "C, H, W): save images.transpose(0, 3, 1, 2)")


def _measured(train):
    """Scaling that gives the training images mean 0 and deviation 1 per channel (over all values for "
      "vectors)."""
    images, scale = train.images, train.scaling.scale
    if not images.size:
        return train.scaling
    channels = [images[:, c] for c in range(images.shape[1])] if images.ndim == 4 else [images]
    mean = [float(scale * c.mean(dtype=np.float64)) for c in channels]
    std = [float(scale * c.std(dtype=np.float64)) or 1.0 for c in channels]
    return Scaling(scale, mean, std)
