"""Storing against recomputing: seed 002, section 1."""

from nbprop.nn.module import as_input
from nbprop.nn.sequential import Sequential

__all__ = ["Recompute"]


class Recompute(Sequential):
    """A chain of layers that keeps only its input, and computes the rest again in the backward pass.

    Same results, bit for bit, for one more forward pass. The layers' buffers live only while a pass runs
    through them, and each pass allocates them anew ("computing twice is useful when memory is limited", seed
    002, section 1).

    Parameters
    ----------
    *layers : Module
        Named "0", "1", ... as in Sequential.
    """

    def forward(self, x):
        x = as_input(x)
        self._last = x, _remember(self)
        y = super().forward(x)
        self._release_layers()
        return y

    def backward(self, dy, input_gradient=True):
        x, before = self._last
        after = _remember(self)
        _restore(before)
        super().forward(x)
        _restore(after)
        dx = super().backward(dy, input_gradient)
        self._release_layers()
        return dx

    def _release_layers(self):
        """Free the buffers: whoever uses an output or a gradient still holds it."""
        for layer in self:
            layer.forget()  # and not the memory of gradients, which the next layers need


def _inner(chain):
    return [module for layer in chain for module in layer.modules()]


def _remember(chain):
    """Keep what a forward pass changes and depends on: running statistics, dropout's count of its passes."""
    return [(module, {name: getattr(module, name).copy() for name in module.state},
             {name: value for name, value in vars(module).items() if isinstance(value, (bool, int, float))})
            for module in _inner(chain)]  # fmt: skip


def _restore(remembered):
    for module, arrays, numbers in remembered:
        for name, array in arrays.items():
            getattr(module, name)[...] = array
        vars(module).update(numbers)
