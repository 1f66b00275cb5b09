"""What modules made of modules share: checks of their parts, one flat vector, the joining with a ReLU."""

import inspect

from nbprop.nn.activation import ReLU
from nbprop.nn.module import Module, flatten

__all__ = ["check_parts", "joins", "own"]


def check_parts(kind, parts):
    """Refuse, by name, what is not a Module, and a module that stands in two places.

    Parameters
    ----------
    kind : str
        What the parts are called: "layer", "node".
    parts : dict
        Name and Module.
    """
    places = {}
    for name, part in parts.items():
        if not isinstance(part, Module):
            raise ValueError(f"{kind} {name} is {part!r}; expected an nbprop Module")
        for module in part.modules():
            if id(module) in places:
                raise ValueError(f"one module, {type(module).__name__}, stands in two places, {kind}s "
                                 f"{places[id(module)]} and {name}; make a second one: a module keeps the "
                                 "buffers of its last call")
            places[id(module)] = name


def own(container):
    """Return (data, grad): one vector of all parameters, one of all gradients; (None, None) without any.

    The vectors of containers inside are let go: nothing refers to them any more.
    """
    for module in container.modules():
        if "data" in vars(module) and "grad" in vars(module):
            module.data = module.grad = None
    parameters = list(container.parameters())
    return flatten(parameters) if parameters else (None, None)


def joins(layer, following):
    """Say whether `layer` can hand over the positive part of its output, which is all that `following` does.

    A layer that can has `relu` among the arguments of its forward: one pass over memory less.
    """
    takes_relu = "relu" in inspect.signature(type(layer).forward).parameters
    return takes_relu and type(following) is ReLU and following.adopts
