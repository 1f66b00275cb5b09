"""A chain of modules with its parameters in one flat vector."""

from nbprop.nn.activation import ReLU
from nbprop.nn.conv import Conv2d
from nbprop.nn.linear import Linear
from nbprop.nn.module import Module, as_input, flatten

__all__ = ["Sequential"]


class Sequential(Module):
    """Run modules one after another: forward in order, backward in reverse (seed 002, algorithms 6.3 and 6.4).

    Parameters
    ----------
    *layers : Module
        Named "0", "1", ... as in torch.

    Raises
    ------
    ValueError
        If something is not a Module, or one module stands in two places (its buffers would be overwritten).
    """

    def __init__(self, *layers):
        for i, layer in enumerate(layers):
            if not isinstance(layer, Module):
                raise ValueError(f"layer {i} is {layer!r}; expected an nbprop Module")
        inside = [id(m) for layer in layers for m in layer.modules()]
        if len(set(inside)) < len(inside):
            raise ValueError("one module stands in two places of the Sequential; make a second one: a module keeps "
                             "the buffers of its last call")
        self.layers = tuple(layers)
        self.pairs = _pairs(self.layers)
        # Without a wish for dx, backward ends at the first layer that learns.
        self.first_learned = next((i for i, m in enumerate(layers) if any(True for _ in m.parameters())), len(layers))
        self.data, self.grad = flatten(self.parameters()) if any(True for _ in self.parameters()) else (None, None)

    def __len__(self):
        return len(self.layers)

    def __getitem__(self, i):
        return self.layers[i]

    def __iter__(self):
        return iter(self.layers)

    def children(self):
        yield from ((str(i), layer) for i, layer in enumerate(self.layers))

    def forward(self, x):
        x = as_input(x)
        for layer, relu in self.pairs:
            x = layer.forward(x) if relu is None else relu.adopt(layer.forward(x, relu=True))
        return x

    def backward(self, dy, input_gradient=True):
        for i in range(len(self.layers) - 1, self.first_learned - 1 if not input_gradient else -1, -1):
            dy = self.layers[i].backward(dy, input_gradient or i > self.first_learned)
        return dy


def _pairs(layers):
    """Join each product with the ReLU behind it: the positive part is then taken while y is in registers."""
    pairs, i = [], 0
    while i < len(layers):
        joined = (type(layers[i]) in (Conv2d, Linear) and i + 1 < len(layers) and type(layers[i + 1]) is ReLU
                  and layers[i + 1].adopts)
        pairs.append((layers[i], layers[i + 1] if joined else None))
        i += 2 if joined else 1
    return pairs
