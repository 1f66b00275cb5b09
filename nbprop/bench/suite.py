"""The named shapes of suite.json, which every benchmark (`nbprop bench`, asv) takes its work from."""

import functools
import importlib.resources
import json
import re
from typing import NamedTuple

__all__ = [
    "NETS",
    "PASSES",
    "Conv",
    "Net",
    "conv_rows",
    "linear_rows",
    "memory_bound_shapes",
    "net_rows",
    "select",
]

PASSES = ("forward", "backward_input", "backward_weight")


class Conv(NamedTuple):
    """One convolution: N images of C channels, H x W; O output channels, a K x K kernel."""

    N: int
    C: int
    H: int
    W: int
    O: int
    K: int
    S: int
    P: int
    D: int = 1
    G: int = 1
    transposed: bool = False

    @property
    def x_shape(self):
        return self.N, self.C, self.H, self.W

    @property
    def w_shape(self):
        first, second = (self.C, self.O) if self.transposed else (self.O, self.C)
        return first, second // self.G, self.K, self.K

    @property
    def y_shape(self):
        reach = self.D * (self.K - 1) + 1
        if self.transposed:
            return self.N, self.O, *((n - 1) * self.S - 2 * self.P + reach for n in (self.H, self.W))
        return self.N, self.O, *((n + 2 * self.P - reach) // self.S + 1 for n in (self.H, self.W))

    @property
    def flops(self):
        """Multiplications and additions of any one of the three passes."""
        _, _, oh, ow = self.x_shape if self.transposed else self.y_shape
        return 2 * self.N * oh * ow * self.O * (self.C // self.G) * self.K**2


class Net(NamedTuple):
    """The input of one training step; the layers are described in suite.json and built by nbprop.models."""

    batch: int
    sample: tuple
    classes: int = 10
    arguments: tuple = ()  # (name, value) of what nbprop.models is to build other than by default


NETS = {
    "mlp": Net(128, (784,)),
    "lenet": Net(64, (1, 28, 28)),
    "cifar_cnn": Net(64, (3, 32, 32)),
    "resnet20": Net(64, (3, 32, 32)),
}


@functools.cache
def _suite():
    return json.loads(importlib.resources.files(__package__).joinpath("suite.json").read_text("utf-8"))


def conv_rows():
    """Return the convolutions of the suite by name."""
    return {name: Conv(**sizes) for name, sizes in _suite()["conv"].items()}


def net_rows():
    """Return the nets of the suite by name."""
    return {name: NETS[name] for name in _suite()["nets"]}


def linear_rows():
    """Return (N, K, O) of the linear layers of the nets, read from texts such as "Linear 784-512"."""
    rows = {}
    for net, text in _suite()["nets"].items():
        for k, o in re.findall(r"Linear (\d+)-(\d+)", text):
            rows[f"{net} {k}-{o}"] = (NETS[net].batch, int(k), int(o))
    return rows


def memory_bound_shapes():
    """Return the array shapes of the memory-bound rows, read from texts such as "64x32x32x32, forward"."""
    sizes = {name: re.match(r"[\dx,]+", text)[0] for name, text in _suite()["memory_bound"].items()}
    return {name: tuple(int(n) for n in text.replace(",", "").split("x")) for name, text in sizes.items()}


def select(rows, names):
    """Return the rows called `names` (all of them if none is named).

    Raises
    ------
    ValueError
        If a name is not in the suite.
    """
    for name in names:
        if name not in rows:
            raise ValueError(f"row is {name!r}; expected one of {', '.join(rows)}")
    return {name: rows[name] for name in names} if names else dict(rows)
