"""Datasets: the digits inside this package, readers for common files, and batches of them."""

from nbprop.data.arrays import read_arrays
from nbprop.data.batches import Batches
from nbprop.data.cifar10 import cifar10
from nbprop.data.dataset import Dataset, Scaling
from nbprop.data.digits import digits
from nbprop.data.idx import read_idx
from nbprop.data.load import load, load_images
from nbprop.data.mnist import mnist

__all__ = [
    "Batches",
    "Dataset",
    "Scaling",
    "cifar10",
    "digits",
    "load",
    "load_images",
    "mnist",
    "read_arrays",
    "read_idx",
]
