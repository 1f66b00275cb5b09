"""Images and labels as they came, and the scaling that makes network inputs of them batch by batch."""

from typing import NamedTuple

import numpy as np

from nbprop import layout

__all__ = ["Dataset", "Scaling", "as_dataset"]


class Scaling(NamedTuple):
    """Network input = (value * scale - mean) / std, with one mean and std for all channels or one for "
      "each."""

    scale: float
    mean: tuple = (0.0,)
    std: tuple = (1.0,)


class Dataset:
    """Images, held in their own dtype and channels-last, and one label for each.

    Parameters
    ----------
    images : array (N, C, H, W), (N, H, W) for one channel, or (N, features)
        uint8, float32 or float64. Copied only if it is not channels-last.
    labels : array (N,) of integers, array (N,) or (N, outputs) of floats, or None
        Classes from 0, or values to regress on. None where there is only something to predict.
    scaling : Scaling, optional
        By default uint8 is divided by 255 and floats are taken as they are.

    Raises
    ------
    ValueError
        If a dtype or shape is another, or there are not as many labels as images.
    """

    def __init__(self, images, labels=None, scaling=None):
        self.images = _images(images)
        self.labels = None if labels is None else _labels(labels, len(self.images))
        if scaling is None:
            scaling = Scaling(1 / 255 if self.images.dtype == np.uint8 else 1.0)
        self.scaling = _checked(scaling, self.images.shape[1])

    def __len__(self):
        return len(self.images)

    @property
    def classes(self):
        """Number of classes, counted as the highest label plus one; None without integer labels."""
        if self.labels is None or self.labels.dtype != np.int64:
            return None
        return int(self.labels.max(initial=-1)) + 1

    def rows(self):
        """View the images as (N, values), in memory order: the form that batches are gathered from."""
        return in_rows(self.images)

    def affine(self, dtype):
        """Return (factor, offset), one entry per value of a row: input = value * factor + offset."""
        scale, mean, std = self.scaling
        channels = self.images.shape[1]
        std = np.broadcast_to(np.asarray(std, np.float64), channels)
        factor, offset = scale / std, -np.broadcast_to(np.asarray(mean, np.float64), channels) / std
        pixels = self.rows().shape[1] // max(channels, 1)
        return np.tile(factor, pixels).astype(dtype), np.tile(offset, pixels).astype(dtype)


def in_rows(x):
    """View channels-last `x` as (N, values) in memory order."""
    memory = layout.nhwc(x) if x.ndim == 4 else x
    return memory.reshape(len(x), int(np.prod(x.shape[1:])))


def as_dataset(data, name="train"):
    """Return a Dataset from a Dataset or from a tuple (images, labels)."""
    if isinstance(data, Dataset):
        return data
    if not isinstance(data, (tuple, list)) or len(data) != 2:
        raise ValueError(f"{name} is a {type(data).__name__}; expected a Dataset or a tuple (images, labels)")
    return Dataset(*data)


def _images(images):
    images = np.asarray(images)
    if images.dtype not in (np.uint8, np.float32, np.float64):
        raise ValueError(f"images have dtype {images.dtype}; expected uint8, float32 or float64: convert "
                         "them with images.astype(np.float32)")
    if images.ndim == 3:
        images = images[:, None]
    if images.ndim not in (2, 4):
        raise ValueError(f"images have shape {images.shape}; expected (N, C, H, W), (N, H, W) or (N, "
                         "features)")
    return layout.channels_last(images)


def _labels(labels, n):
    labels = np.asarray(labels)
    if len(labels.shape) == 0 or len(labels) != n:
        raise ValueError(f"labels have shape {labels.shape}; expected one label for each of the {n} images")
    if labels.dtype.kind in "iu":
        if labels.ndim != 1:
            raise ValueError(f"labels have shape {labels.shape}; expected ({n},): class numbers, which "
                             "one-hot rows give by labels.argmax(axis=1)")
        if labels.size and labels.min() < 0:
            raise ValueError(f"labels hold {labels.min()}; expected class numbers from 0")
        return layout.contiguous(labels.astype(np.int64, copy=False))
    if labels.dtype not in (np.float32, np.float64) or labels.ndim > 2:
        raise ValueError(f"labels have dtype {labels.dtype} and shape {labels.shape}; expected class numbers "
                         "(N,) of an integer dtype, or float values (N,) or (N, outputs)")
    return layout.contiguous(labels)


def _checked(scaling, channels):
    scale, mean, std = Scaling(*scaling)
    mean, std = tuple(np.atleast_1d(mean).tolist()), tuple(np.atleast_1d(std).tolist())
    for name, values in (("mean", mean), ("std", std)):
        if len(values) not in (1, channels):
            raise ValueError(f"scaling has {len(values)} values of {name}; expected 1, or one for each of "
                             f"the {channels} channels")
    if not all(std):
        raise ValueError(f"scaling has std {std}; expected no zero, by which the values would be divided")
    return Scaling(float(scale), mean, std)
