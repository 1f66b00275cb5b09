"""What a model is made of: a line per layer with shapes, weights, work and memory."""

import math
from typing import NamedTuple

from nbprop import layout
from nbprop.nn.module import Module
from nbprop.nn.walk import walk

__all__ = ["Row", "Summary", "summary"]


class Row(NamedTuple):
    """One layer: `flops` of its forward pass, `bytes` of its weights and its output."""

    layer: str
    output_shape: tuple
    weights: int
    flops: int
    bytes: int


class Summary(tuple):
    """The rows of all layers; prints as a table."""

    @property
    def total(self):
        """The sums over all rows, with the shape of the model's output."""
        shape = self[-1].output_shape if self else ()
        return Row("total", shape, *(sum(row[i] for row in self) for i in (2, 3, 4)))

    def __str__(self):
        lines = [Row._fields, *map(_words, self), _words(self.total)]
        widths = [max(map(len, column)) for column in zip(*lines)]
        text = [f"{line[0]:<{widths[0]}}  {line[1]:<{widths[1]}}  " + "  ".join(
            f"{word:>{width}}" for word, width in zip(line[2:], widths[2:])) for line in lines]  # fmt: skip
        rule = "-" * len(text[0])
        return "\n".join([text[0].replace("_", " "), rule, *text[1:-1], rule, text[-1]])

    __repr__ = __str__


def summary(model, input_shape, dtype="float32"):
    """Return the layers of a model with their output shapes, weights, FLOPs and bytes; print it for a table.

    A multiplication and an addition are two FLOPs: 2 O OH OW C/G KH KW for a convolution and 2 O K for a
    linear layer, per image. Biases, activations and pooling are not counted. Bytes are those of weights and
    output.

    Parameters
    ----------
    model : Module
        Its forward pass runs once, in eval mode.
    input_shape : tuple of int
        Of one input, (C, H, W) or (features,), or with the batch size in front.
    dtype : dtype
        Of the input; the model's.

    Returns
    -------
    Summary

    Raises
    ------
    ValueError
        If the input does not fit the model.
    """
    if not isinstance(model, Module):
        raise ValueError(f"model is a {type(model).__name__}; expected a Module")
    shape = tuple(input_shape)
    if len(shape) not in (1, 2, 3, 4):
        raise ValueError(f"input_shape is {shape}; expected (C, H, W) or (features,), or with the batch size "
                         "in front")
    x = layout.empty(shape if len(shape) in (2, 4) else (1, *shape), dtype)
    x[...] = 0
    mode = model.training
    model.eval()
    try:
        return Summary(_row(name, layer, y) for name, layer, _, y in walk(model, x))
    finally:
        model.train(mode)


def _row(name, layer, y):
    weights = sum(p.size for p in layer.parameters())
    size = sum(p.data.nbytes for p in layer.parameters()) + y.nbytes
    return Row(f"{name} {type(layer).__name__}".strip(), tuple(y.shape), weights, _flops(layer, y), size)


def _flops(module, y):
    """Every weight of a convolution is used once per output pixel, of a linear layer once per row."""
    uses = {4: len(y) * math.prod(y.shape[2:]), 2: len(y)}
    weights = (p for name, p in module.named_parameters() if name.rpartition(".")[2] == "weight")
    return sum(2 * p.size * uses.get(len(p.shape), 0) for p in weights)


def _words(row):
    return row.layer, str(row.output_shape), *(f"{number:,}" for number in row[2:])
