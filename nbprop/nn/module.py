"""What every layer is: parameters, two passes, and buffers that are allocated once per input shape."""

import weakref

import numpy as np

from nbprop import layout, lent, shapes
from nbprop.nn.gradient import as_gradient
from nbprop.nn.parameter import Parameter, flatten, move

__all__ = ["Module", "Parameter", "flatten"]

_BUFFERS = "_plans", "_entered", "_received", "_last", "last"  # attributes that hold what a pass leaves behind
_NOBODY = object()
_PLANS = 4  # input shapes a layer keeps buffers for: training, its last short batch, validation, its last


def _nobody():
    return _NOBODY


class Module:
    """Base of layers and models.

    A subclass sets its parameters as attributes and writes `allocate`, `forward` and `backward`. `forward` returns the
    layer's own buffer, which `backward` may read and the next call with the same shape overwrites: leave it as it is.
    Calling the layer, `layer(x)`, checks `x` and returns an array that belongs to the caller. What `backward` returns
    may be overwritten by its next call, too: copy what you keep. (Large gradients on the host are not, for as long as
    you hold them: see `nbprop.lent`.)
    """

    training = True
    state = ()  # names of attributes that belong to the state dict but are not learned
    # A weak reference to what was let through last as it was: by `enter`, with its look and plan; by `receive`, with
    # what it is a gradient by, and its shape.
    _entered = _received = _nobody, None, None

    def __new__(cls, *arguments, **named):
        module = super().__new__(cls)
        module.made_with = arguments, named  # a saved model is built again from these
        return module

    def __getstate__(self):
        return {name: value for name, value in vars(self).items() if name not in _BUFFERS}  # copies make their own

    def __getattr__(self, name):
        """Say what is missing where a pass has left nothing behind yet."""
        if name in _BUFFERS:
            raise RuntimeError(f"{type(self).__name__}.backward came before forward; call forward first")
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    def __call__(self, x):
        return self.forward(x).copy("K")

    def allocate(self, shape, dtype):
        """Check an input shape and return what `forward` and `backward` need for it."""
        raise NotImplementedError(f"{type(self).__name__} does not define allocate(shape, dtype)")

    def forward(self, x):
        """Return the layer's output for `x`, in the layer's own buffer."""
        raise NotImplementedError(f"{type(self).__name__} does not define forward(x)")

    def backward(self, dy, input_gradient=True):
        """Overwrite the parameters' gradients; return dx, or None if not asked for.

        It lies in memory that `nbprop.lent` takes back when nobody refers to it: keep no dy and no dx in the layer.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define backward(dy)")

    def enter(self, x, ranks=None):
        """Return `x`, checked and in the memory order that kernels read, and its plan.

        The last one is let through at once if it still has its shape (its dtype and strides nobody sets in place), one
        that looks like it nearly so. `ranks` are the numbers of axes that may come.
        """
        known, before, p = self._entered
        if x is known() and x.shape == before[0]:
            return x, p
        look = layout.look(x)
        if look is None or look != before:
            came, x = x, layout.channels_last(shapes.check_array("x", x, ranks))
            p = self.plan(x)
            look = look if x is came else None
        self._entered = (_nobody if look is None else weakref.ref(x)), look, p
        return x, p

    def receive(self, dy, y):
        """Return `dy`, checked to be a gradient by `y`, in the memory order that kernels read."""
        known, by, shape = self._received
        if dy is known() and y is by and dy.shape == shape:
            return dy
        came, dy = dy, as_gradient(dy, y)
        if dy is came and type(dy) is np.ndarray:
            self._received = weakref.ref(dy), y, dy.shape
        return dy

    def plan(self, x, shape=None):
        """Return what `allocate` made for arrays like `x`, calling it at the first of that shape, dtype and place.

        Layers with several inputs give the first, and the shapes of all.
        """
        shape = x.shape if shape is None else shape
        key = (shape, x.dtype, type(x))
        plans = self.__dict__.setdefault("_plans", {})
        if key not in plans:
            for name, value in vars(self).items():
                if isinstance(value, Parameter):
                    shapes.check_same_place(**{"x": x, name: value.data})
            with layout.beside(x):
                made = self.allocate(shape, x.dtype)
            if len(plans) == _PLANS:
                del plans[next(iter(plans))]
            plans[key] = made
        return plans[key]

    def release(self):
        """Let go of all buffers, of the modules inside too: the next pass allocates them anew."""
        self.forget()
        lent.release()

    def forget(self):
        """Let go of the buffers of this module and those inside, but not of memory that all models share."""
        for module in self.modules():
            for name in _BUFFERS:
                vars(module).pop(name, None)

    def children(self):
        """Yield (name, module) for each direct part of this module."""
        for name, value in vars(self).items():
            if isinstance(value, Module):
                yield name, value

    def modules(self):
        """Yield this module and every module inside it, depth first."""
        yield self
        for _, child in self.children():
            yield from child.modules()

    def named_parameters(self, prefix=""):
        """Yield (dotted name, Parameter), in torch's names and order."""
        for name, value in vars(self).items():
            if isinstance(value, Parameter):
                yield prefix + name, value
        for name, child in self.children():
            yield from child.named_parameters(f"{prefix}{name}.")

    def parameters(self):
        """Yield every Parameter."""
        for _, parameter in self.named_parameters():
            yield parameter

    def train(self, mode=True):
        """Switch dropout and the like on (or off); return the module."""
        for module in self.modules():
            module.training = bool(mode)
        return self

    def eval(self):
        """Switch dropout and the like off; return the module."""
        return self.train(False)

    def to(self, device):
        """Move parameters, gradients and state to "cuda" or back to "cpu"; return the module.

        One copy for each flat vector: optimisers made before follow at their next step. Buffers are let go.

        Raises
        ------
        ValueError
            If `device` is neither.
        ImportError, RuntimeError
            Saying what is missing: numba-cuda, a driver, a toolkit, a GPU that is new enough.
        """
        copy, moved = layout.mover(device), move(list(self.parameters()), device)
        for module in self.modules():
            for name, value in list(vars(module).items()):
                if id(value) in moved:  # the vectors that a container shows
                    setattr(module, name, moved[id(value)][1])
                elif name in module.state and value.ndim:  # counters stay with the host
                    setattr(module, name, copy(value))
        self.release()
        return self

    def named_state(self, prefix=""):
        """Yield (dotted name, array) for parameters and for the buffers named in `state`."""
        for name, value in vars(self).items():
            if isinstance(value, Parameter):
                yield prefix + name, value.data
            elif name in self.state:
                yield prefix + name, value
        for name, child in self.children():
            yield from child.named_state(f"{prefix}{name}.")

    def state_dict(self):
        """Return copies of all parameters and buffers by dotted name; torch loads them as they are."""
        here = layout.mover("cpu")
        return {name: np.array(here(value), order="C") for name, value in self.named_state()}

    def load_state_dict(self, state, strict=True):
        """Copy arrays into the parameters and buffers of the same names.

        Raises
        ------
        ValueError
            If a shape differs or, when `strict`, if a name is missing or not of this model.
        """
        mine = dict(self.named_state())
        missing, unknown = [n for n in mine if n not in state], [n for n in state if n not in mine]
        if strict and (missing or unknown):
            raise ValueError(f"state has names that do not fit this model: missing {missing}, unknown {unknown}; "
                             "build the same model, or pass strict=False")
        here = layout.mover("cpu")
        arrays = {name: np.asarray(here(state[name])) for name in mine if name in state}
        for name, array in arrays.items():
            if array.shape != mine[name].shape:
                raise ValueError(f"state[{name!r}] has shape {array.shape}; expected {mine[name].shape}")
        for name, array in arrays.items():
            mine[name][...] = array
        return self


def as_input(x):
    """Return `x` in the memory order that kernels read: itself, or one copy at the model's door."""
    x = shapes.check_array("x", x)
    return layout.channels_last(x)
