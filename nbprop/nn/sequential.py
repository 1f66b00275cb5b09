"""A chain of modules with its parameters in one flat vector."""

from nbprop.defer import Together, looks_not, run
from nbprop.nn.container import check_parts, joins, own, pass_back, takers
from nbprop.nn.module import Module

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
        check_parts("layer", dict(enumerate(layers)))
        self.layers = tuple(layers)
        self.pairs = _pairs(self.layers)
        self.takers = takers(dict(enumerate(layers)), {i: i + 1 for i in range(len(layers) - 1)})
        # (place, layer, whether it takes over a ReLU's backward pass) of those that have one, last first.
        way = [(i, layer, i in self.takers.values()) for i, layer in enumerate(layers) if i not in self.takers]
        self.way_back = way[::-1]
        # Without a wish for dx, backward ends at the first layer that learns.
        learning = (i for i, layer in enumerate(layers) if any(True for _ in layer.parameters()))
        self.first_learned = next(learning, len(layers))
        self.data, self.grad = own(self)

    def __len__(self):
        return len(self.layers)

    def __getitem__(self, i):
        return self.layers[i]

    def __iter__(self):
        return iter(self.layers)

    def children(self):
        yield from ((str(i), layer) for i, layer in enumerate(self.layers))

    def allocate(self, shape, dtype):
        """Nothing: its layers do."""

    @looks_not
    def forward(self, x):
        y, _ = self.enter(x)  # x is held till the end
        with Together():
            for layer, relu in self.pairs:
                y = run(layer.forward, y) if relu is None else relu.adopt(run(layer.forward, y, relu=True))
        return y

    @looks_not
    def backward(self, dy, input_gradient=True):
        with Together() as begun:
            passed, _held = [dy], dy if begun else None  # it may lie in another thread's memory
            del dy  # each gradient is handed on without a reference left here: its memory is then soon free again
            for i, layer, relu in self.way_back:
                if i < self.first_learned and not input_gradient:
                    break
                passed.append(pass_back(layer, passed, input_gradient or i > self.first_learned, relu))
        return passed.pop()


def _pairs(layers):
    """Join each product with the ReLU behind it: the positive part is then taken while y is in registers."""
    pairs, i = [], 0
    while i < len(layers):
        joined = i + 1 < len(layers) and joins(layers[i], layers[i + 1])
        pairs.append((layers[i], layers[i + 1] if joined else None))
        i += 2 if joined else 1
    return pairs
