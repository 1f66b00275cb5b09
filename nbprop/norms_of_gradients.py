"""The size of gradients, layer by layer, to see them vanish or explode: seed 001."""

import math

from nbprop.nn.module import Parameter
from nbprop.ops import update

__all__ = ["gradient_norms"]


def gradient_norms(model):
    """Return {dotted name of a layer: Euclidean norm of its parameters' gradients}, in the model's order.

    Norms that shrink from the last layer to the first say that gradients vanish on their way back; norms
    that grow, that they explode: "derivatives in different layers affect the back-propagated gradient in a
    multiplicative way" (seed 001).

    Parameters
    ----------
    model : Module
        After a backward pass.

    Returns
    -------
    dict
    """
    return {name: norm for name, norm in _norms(model, "") if norm is not None}


def _norms(module, name):
    parameters = [p for p in vars(module).values() if isinstance(p, Parameter)]
    squares = [update.norm(p.flat_grad) ** 2 for p in parameters]
    yield name or type(module).__name__, math.sqrt(sum(squares)) if squares else None
    for part, child in module.children():
        yield from _norms(child, f"{name}.{part}" if name else part)
