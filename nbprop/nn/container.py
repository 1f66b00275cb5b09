"""What modules made of modules share: checks of their parts, one flat vector, the joining with a ReLU or an Add."""

import inspect

from nbprop.defer import looks, resume, suspend
from nbprop.nn.activation import ReLU
from nbprop.nn.merge import Add
from nbprop.nn.module import Module, flatten
from nbprop.nn.pooling import MaxPool2d
from nbprop.nn.product import Product

__all__ = ["adds", "check_parts", "joins", "own", "pass_back", "takers"]

_HERE, _IN_FRONT = "relu", "relu_in_front"  # arguments of passes that do a neighbouring ReLU's too
_ADDED = "added"  # and of those that add what a neighbouring Add would


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
    container.forget()
    for module in container.modules():
        if "data" in vars(module) and "grad" in vars(module):
            module.data = module.grad = None
    parameters = list(container.parameters())
    return flatten(parameters) if parameters else (None, None)


def joins(layer, following):
    """Say whether `layer` can hand over the positive part of its output, which is all that `following` does.

    A layer that can has `relu` among the arguments of its forward: one pass over memory less.
    """
    return _has(type(layer).forward, _HERE) and _is_plain_relu(following)


def adds(layer, following):
    """Say whether `layer` can add the other input of `following` to its output, which is all that it does."""
    return _has(type(layer).forward, _ADDED) and type(following) is Add


def takers(layers, reader):
    """Return {name of a ReLU: name of its neighbour that takes its backward pass over}, where there is one.

    A layer that can has `relu` among the arguments of its backward: it then multiplies dy by the slope at its own
    output. That is the slope of a ReLU behind it, and, as each maximum is one of the values before, of one in front of
    a max pooling; of the two that is asked, since it has fewer outputs. A product has `relu_in_front`: it multiplies
    its dx by the slope at its input.

    Parameters
    ----------
    layers : dict
        Name and Module.
    reader : dict
        Name of a layer and of the one that reads its output, where that is one.
    """
    read, found = {after: before for before, after in reader.items()}, {}
    for name, layer in layers.items():
        if _is_plain_relu(layer):
            before, after = layers.get(read.get(name)), layers.get(reader.get(name))
            if isinstance(after, MaxPool2d) and _takes_over(after, _HERE):
                found[name] = reader[name]
            elif before is not None and not isinstance(before, Product) and _takes_over(before, _HERE):
                found[name] = read[name]
            elif isinstance(after, Product) and _takes_over(after, _IN_FRONT):
                found[name] = reader[name]
    return found


def pass_back(layer, held, input_gradient, relu):
    """Run a layer's backward pass, as `defer.run` does, on the gradient in the list `held`.

    With it goes the backward pass of a ReLU that it takes over.
    """
    if not looks(layer.backward):
        return _pass_back(layer, held, input_gradient, relu)
    suspended = suspend()
    try:
        return _pass_back(layer, held, input_gradient, relu)
    finally:
        resume(suspended)


def _pass_back(layer, held, input_gradient, relu):
    """Do it.

    The call takes the gradient out of the list: if anything else referred to it meanwhile (a variable here, or the
    arguments that ``**`` packs), its memory would not be free for the layers inside.
    """
    if not relu:
        return layer.backward(held.pop(), input_gradient)
    if isinstance(layer, Product):
        return layer.backward(held.pop(), input_gradient, relu_in_front=True)
    return layer.backward(held.pop(), input_gradient, relu=True)


def _takes_over(layer, relu):
    """Say whether a backward pass has the argument `relu`, and belongs to the forward pass that the layer has.

    A subclass that changed one of the two may have other outputs than those that the pass takes slopes at.
    """
    makers = {next(c for c in type(layer).__mro__ if name in vars(c)) for name in ("forward", "backward")}
    return len(makers) == 1 and _has(type(layer).backward, relu)


def _has(method, argument):
    return argument in inspect.signature(method).parameters


def _is_plain_relu(layer):
    return type(layer) is ReLU and layer.adopts
