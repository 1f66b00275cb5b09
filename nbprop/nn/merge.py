"""Layers that take several inputs: where the branches of a graph meet."""

from types import SimpleNamespace

import numpy as np

from nbprop import layout, shapes
from nbprop.defer import looks_not
from nbprop.lent import Lent
from nbprop.nn.module import Module, as_input
from nbprop.repeat import Repeated

__all__ = ["Add", "Concat", "Merge"]


class Merge(Module):
    """Base of layers with several inputs: `forward(*xs)` gives y, `backward(dy)` one gradient for each input.

    `allocate(shapes, dtype)` gets the shapes of all inputs.
    """

    def __call__(self, *xs):
        return self.forward(*xs).copy("K")

    def plan(self, *xs):
        return super().plan(xs[0], tuple(x.shape for x in xs))

    def inputs(self, xs):
        """Check the inputs and bring them to the memory order that kernels read."""
        if len(xs) < 2:
            raise ValueError(f"{type(self).__name__} got {len(xs)} inputs; expected at least 2")
        xs = [shapes.check_array(f"input {i}", x, (2, 4)) for i, x in enumerate(xs)]
        shapes.check_same_dtype(**{f"input {i}": x for i, x in enumerate(xs)})
        return [as_input(x) for x in xs]


class Add(Merge):
    """y = x0 + x1 + ..., all of one shape; each gets back dy itself (seed 001, multivariate chain rule)."""

    def allocate(self, shape, dtype):
        if len(set(shape)) > 1:
            raise ValueError(f"the inputs have shapes {' and '.join(map(str, shape))}; expected one shape")
        adds = [Repeated("add", "add_forward") for _ in shape[1:]]
        return SimpleNamespace(y=layout.empty(shape[0], dtype), adds=adds)

    @looks_not
    def forward(self, *xs, relu=False):
        """Return the sum, or with `relu` its positive part: Graph asks for it where a ReLU follows."""
        xs = self.inputs(xs)
        p = self.plan(*xs)
        for i, add in enumerate(p.adds, 1):
            add.run(xs[0] if i == 1 else p.y, xs[i], p.y, relu and i == len(p.adds))
        self._last = (p.y, len(xs))
        return p.y

    def adopt(self, y):
        """Take over `y`, the sum of two inputs as the layer in front has made it, as this layer's output."""
        self._last = (y, 2)
        return y

    @looks_not
    def backward(self, dy, input_gradient=True):
        y, count = self._last
        dy = self.receive(dy, y)
        return (dy,) * count if input_gradient else None


class Concat(Merge):
    """One input's channels after the other's, y = [x0, x1, ...] on axis 1; each gets back its part of dy."""

    def allocate(self, shape, dtype):
        if len({(s[0], *s[2:]) for s in shape}) > 1:
            raise ValueError(f"the inputs have shapes {' and '.join(map(str, shape))}; expected them to "
                             "differ in axis 1, the channels, alone")
        ends = np.cumsum([s[1] for s in shape]).tolist()
        y = layout.empty((shape[0][0], ends[-1], *shape[0][2:]), dtype)
        parts = [slice(end - s[1], end) for s, end in zip(shape, ends)]
        return SimpleNamespace(y=y, parts=parts, dxs=[Lent(s, dtype) for s in shape])

    def forward(self, *xs):
        xs = self.inputs(xs)
        self._last = p = self.plan(*xs)
        for part, x in zip(p.parts, xs):
            p.y[:, part] = x
        return p.y

    def backward(self, dy, input_gradient=True):
        p = self._last
        dy = self.receive(dy, p.y)
        if not input_gradient:
            return None
        dxs = tuple(lent.take() for lent in p.dxs)
        for part, dx in zip(p.parts, dxs):
            dx[...] = dy[:, part]
        return dxs
