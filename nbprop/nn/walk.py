"""Run a model layer by layer, looking at each."""

from nbprop.nn.graph import Graph
from nbprop.nn.sequential import Sequential

__all__ = ["walk"]


def walk(module, *xs, name=""):
    """Run `module` layer by layer, into Sequential and Graph; yield (dotted name, layer, inputs, output).

    The arrays are the layers' own buffers. No layer is joined with the ReLU or the Add behind it.
    """
    if isinstance(module, Sequential):
        (x,) = xs
        for i, layer in enumerate(module):
            x = yield from walk(layer, x, name=f"{name}{i}.")
        return x
    if isinstance(module, Graph):
        values = {"input": xs[0]}
        for node in module.order:
            inputs = [values[source] for source in node.inputs]
            values[node.name] = yield from walk(node.layer, *inputs, name=f"{name}{node.name}.")
        return values[module.output]
    y = module.forward(*xs)
    yield name.rstrip("."), module, xs, y
    return y
