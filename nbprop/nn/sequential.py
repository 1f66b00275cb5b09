"""A chain of modules with its parameters in one flat vector."""

import numpy as np

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
        self.layers = list(layers)
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
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def backward(self, dy, input_gradient=True):
        for i in reversed(range(len(self.layers))):
            dy = self.layers[i].backward(dy, input_gradient or i > 0)
        return dy

    def __call__(self, x):
        return np.copy(self.forward(x), order="K")
