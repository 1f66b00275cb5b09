"""Learned arrays, and the flat vectors that they live in."""

import numpy as np

from nbprop import layout

__all__ = ["ALIGN", "Parameter", "Vectors", "fill", "flatten", "move"]

ALIGN = 16  # elements: each parameter starts on a cache line of the flat vector (64 bytes in float32)


class Vectors:
    """A home for parameters: one vector `data` of their values, one `grad` of their gradients, alike in layout."""

    def __init__(self, data, grad):
        self.data, self.grad = data, grad


class Parameter:
    """A learned array `data` and its gradient `grad`: views of one shape and one memory order.

    Both are parts of the vectors of `home`, from the element `start` on.

    Parameters
    ----------
    data : array
        Initial values; copied.
    memory : tuple of int
        The axes of `data` in the order of memory, slowest first: (2, 3, 1, 0) lays convolution weights
        (O, C, KH, KW) out as KH, KW, C, O.
    """

    def __init__(self, data, memory=None):
        data = np.asarray(data)
        self.memory = tuple(range(data.ndim)) if memory is None else tuple(memory)
        self.shape, self.dtype, self.size = data.shape, data.dtype, data.size
        self.settle(Vectors(*(layout.zeros((self.size,), self.dtype, data) for _ in range(2))))
        self.data[...] = data

    def settle(self, home, start=0):
        """Live in `home` from `start` on, with the values that stand there."""
        self.home, self.start = home, start
        self.data, self.grad = self._view(home.data), self._view(home.grad)

    @property
    def flat_grad(self):
        """The gradient in memory order."""
        return self.home.grad[self.start : self.start + self.size]

    def _view(self, vector):
        stored = vector[self.start : self.start + self.size].reshape([self.shape[axis] for axis in self.memory])
        return stored.transpose(np.argsort(self.memory))

    def __getstate__(self):
        return {name: value for name, value in vars(self).items() if name not in ("data", "grad")}

    def __setstate__(self, state):
        """A copy views its home's copy."""
        vars(self).update(state)
        self.settle(self.home, self.start)


def flatten(parameters):
    """Move parameters into one vector and their gradients into another; return the two vectors.

    An optimiser is then one loop over a vector, and a data-parallel exchange one Allreduce. The gaps that keep
    each parameter on a cache line hold zeros, and stay zero under every update.
    """
    parameters = list(parameters)
    dtypes = {p.dtype for p in parameters}
    if len(dtypes) > 1:
        raise ValueError(f"parameters have dtypes {sorted(map(str, dtypes))}; expected one dtype for the model")
    starts = np.cumsum([0, *map(_room, parameters)]).tolist()
    like = parameters[0].data if parameters else None
    home = Vectors(*(layout.zeros((starts[-1],), *dtypes, like) for _ in range(2)))
    for p, start in zip(parameters, starts):
        data, grad = p.data, p.grad
        p.settle(home, start)
        p.data[...], p.grad[...] = data, grad
    return home.data, home.grad


def fill(parameters):
    """Return the home that these parameters, and no others, live in, or None."""
    home = parameters[0].home
    alone = len(parameters) == 1 and parameters[0].size == home.data.size
    full = alone or sum(map(_room, parameters)) == home.data.size
    return home if full and all(p.home is home for p in parameters) else None


def move(parameters, device):
    """Bring the vectors that parameters live in to "cuda" or "cpu"; return {id of a vector: (itself, its copy there)}.

    A parameter that shares its vectors with strangers leaves them first.
    """
    copy, moved, households = layout.mover(device), {}, {}
    for p in parameters:
        households.setdefault(p.home, []).append(p)
    for home, tenants in households.items():
        if layout.on_gpu(home.data) == (device == "cuda"):
            continue
        if fill(tenants) is None:
            flatten(tenants)
        home = tenants[0].home
        for name in ("data", "grad"):
            old = getattr(home, name)
            setattr(home, name, copy(old))
            moved[id(old)] = old, getattr(home, name)
        for p in tenants:
            p.settle(home, p.start)
    return moved


def _room(parameter):
    return -(-parameter.size // ALIGN) * ALIGN
