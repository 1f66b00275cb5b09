"""A directed acyclic graph of layers: forward in topological order, backward by dynamic programming."""

from types import SimpleNamespace
from typing import NamedTuple

from nbprop import layout
from nbprop.defer import Together, looks_not, run
from nbprop.lent import Lent
from nbprop.nn.container import adds, check_parts, joins, own, pass_back, takers
from nbprop.nn.merge import Add, Merge
from nbprop.nn.module import Module
from nbprop.repeat import Repeated

__all__ = ["Graph", "Node", "Residual"]


class Node(NamedTuple):
    """A layer, and the names of the nodes that it reads."""

    name: str
    layer: Module
    inputs: tuple


class Graph(Module):
    """Layers that read each other's outputs by name.

        nn.Graph({
            "conv1": nn.Conv2d(3, 16, 3, padding=1),           # reads the graph's input
            "relu1": nn.ReLU(),                                # reads the node before it
            "conv2": nn.Conv2d(16, 16, 3, padding=1),
            "skip":  (nn.Conv2d(3, 16, 1), "input"),           # reads what it names
            "sum":   (nn.Add(), "conv2", "skip"),
        })

    A node's gradient is the sum over its consumers j, each computed once (seed 001, S(i, o) = sum over j of
    S(j, o) z(i, j); seed 002, algorithm 6.2).

    Parameters
    ----------
    nodes : dict
        Name and Module, or name and (Module, name of an input, ...). "input" is the graph's own input. A
        Module alone reads the node before it. Names are those of the state dict, as in torch.
    output : str, optional
        The node that the graph returns; the last one if None.

    Raises
    ------
    ValueError
        If a name is unknown or not usable, nodes form a cycle, the output does not depend on a node, or one
        module stands in two places: by name.
    """

    def __init__(self, nodes, output=None):
        self.nodes = _nodes(nodes)
        self.output = next(reversed(self.nodes)) if output is None else output
        if self.output not in self.nodes:
            raise ValueError(f"output is {output!r}; expected one of the nodes {', '.join(self.nodes)}")
        self.order = _in_topological_order(self.nodes)
        _refuse_unused(self.order, self.output)
        self.makes_relu, self.adopts = _joined(self.order)
        self.adders = _adders(self.order)
        self.takers = takers({node.name: node.layer for node in self.order}, _only_readers(self.order))
        # Nodes with parameters in or above them: without a wish for dx, these alone get a dy.
        self.learned = set()
        for node in self.order:
            if any(True for _ in node.layer.parameters()) or self.learned.intersection(node.inputs):
                self.learned.add(node.name)
        self.data, self.grad = own(self)

    def children(self):
        yield from ((name, node.layer) for name, node in self.nodes.items())

    def allocate(self, shape, dtype):
        return SimpleNamespace(sums={})

    @looks_not
    def forward(self, x):
        x, self._last = self.enter(x)
        values = {"input": x}
        with Together():
            for node in self.order:
                if node.name not in self.adders.values():  # those run with the addition behind them
                    values[node.name] = self._run(node, values)
        return values[self.output]

    @looks_not
    def backward(self, dy, input_gradient=True):
        with Together() as begun:
            gradients, _held = {self.output: dy}, dy if begun else None  # it may lie in another thread's memory
            del dy  # only `gradients` refers to a gradient, and until it is used: its memory is then free again
            for node in reversed(self.order):
                if gradients.get(node.name) is not None:
                    self._send_back(node, gradients, input_gradient)
        return gradients.get("input")

    def _send_back(self, node, gradients, input_gradient):
        """Take the node's gradient out of `gradients`, and add what it gives its inputs to theirs."""
        name, layer, inputs = node
        wanted = input_gradient or not self.learned.isdisjoint(inputs)
        if name in self.takers:
            dxs = gradients.pop(name)
        else:
            dxs = pass_back(layer, [gradients.pop(name)], wanted, name in self.takers.values())
        if not wanted:
            return
        for source, dx in zip(inputs, dxs if isinstance(layer, Merge) else (dxs,)):
            if input_gradient or source in self.learned:
                before = gradients.get(source)
                gradients[source] = dx if before is None else self._sum(source, before, dx)

    def _run(self, node, values):
        name, layer, inputs = node
        if name in self.adders:
            y = self._run_adder(node, values)
            if y is not None:
                return layer.adopt(y)
        xs = [values[source] for source in inputs]
        if name in self.adopts:
            return _named(node, layer.adopt, *xs)
        if name in self.makes_relu:
            return _named(node, run, layer.forward, *xs, relu=True)
        return _named(node, run, layer.forward, *xs)

    def _run_adder(self, node, values):
        """Return the sum as the norm in front makes it; or run that alone, and the addition says what does not fit."""
        norm = self.nodes[self.adders[node.name]]
        x, other = values[norm.inputs[0]], values[next(name for name in node.inputs if name != norm.name)]
        if (x.shape, x.dtype) == (other.shape, other.dtype):
            return _named(norm, run, norm.layer.forward, x, relu=node.name in self.makes_relu, added=other)
        values[norm.name] = _named(norm, run, norm.layer.forward, x)
        return None

    def _sum(self, name, a, b):
        """Return the sum of what two consumers of a node send back."""
        sums = self._last.sums
        if name not in sums:
            sums[name] = Lent(a.shape, a.dtype, a), Repeated("add", "add_forward")
        lent, add = sums[name]
        total = lent.take()
        add.run(layout.channels_last(a), layout.channels_last(b), total, False)
        return total


class Residual(Graph):
    """y = inner(x) + shortcut(x) (He et al. 2016, equations 1 and 2): dx is the sum of what both send back.

    Parameters
    ----------
    inner : Module
    shortcut : Module, optional
        x itself if None.
    """

    def __init__(self, inner, shortcut=None):
        nodes = {"inner": inner, "add": (Add(), "inner", "input")}
        if shortcut is not None:
            nodes = {"inner": inner, "shortcut": (shortcut, "input"), "add": (Add(), "inner", "shortcut")}
        super().__init__(nodes)


def _named(node, function, *arguments, **named):
    """Call a function of a node's layer; errors say whose."""
    try:
        return function(*arguments, **named)
    except ValueError as e:
        kind, reads = type(node.layer).__name__, " and ".join(node.inputs)
        raise ValueError(f"node {node.name} ({kind}), which reads {reads}: {e}") from e


def _nodes(given):
    """Bring the nodes to one form, and check each by itself."""
    if not isinstance(given, dict) or not given:
        raise ValueError(f"nodes is {given!r}; expected a dict of at least one name and layer")
    nodes, before = {}, "input"
    for name, value in given.items():
        if not isinstance(name, str) or not name or "." in name or name == "input":
            raise ValueError(f"a node is called {name!r}; expected a name without a dot, other than 'input'")
        layer, *inputs = value if isinstance(value, (tuple, list)) and value else (value,)
        nodes[name] = Node(name, layer, tuple(inputs) or (before,))
        before = name
    check_parts("node", {name: node.layer for name, node in nodes.items()})
    for name, layer, inputs in nodes.values():
        for source in inputs:
            if source not in nodes and source != "input":
                raise ValueError(f"node {name} reads {source!r}; expected 'input' or one of the nodes "
                                 f"{', '.join(nodes)}")
        if isinstance(layer, Merge) != (len(inputs) > 1):
            expected = "at least two" if isinstance(layer, Merge) else "one"
            raise ValueError(f"node {name} ({type(layer).__name__}) reads {', '.join(inputs)}; expected "
                             f"{expected}")
    return nodes


def _in_topological_order(nodes):
    """Order the nodes so that each comes after those it reads, and else as they were given."""
    order, placed, waiting = [], {"input"}, dict(nodes)
    while waiting:
        for name in list(waiting):
            if placed.issuperset(waiting[name].inputs):
                order.append(waiting.pop(name))
                placed.add(name)
        if waiting and not any(placed.issuperset(node.inputs) for node in waiting.values()):
            raise ValueError(f"the nodes {_circle(waiting)} form a cycle, each reading the one before; "
                             "expected a graph without cycles")
    return order


def _circle(waiting):
    """Follow nodes that wait for each other until one comes again."""
    path = [next(iter(waiting))]
    while path[-1] not in path[:-1]:
        path.append(next(name for name in waiting[path[-1]].inputs if name in waiting))
    return " -> ".join(reversed(path[path.index(path[-1]) :]))


def _refuse_unused(order, output):
    used = {output}
    for node in reversed(order):
        if node.name in used:
            used.update(node.inputs)
    unused = [name for name in ("input", *(node.name for node in order)) if name not in used]
    if unused:
        raise ValueError(f"the output {output} does not depend on {', '.join(unused)}; remove what is "
                         "unused, or name another output")


def _joined(order):
    """Return the names of the nodes that hand over the positive part of their output, and of their ReLUs.

    Only where that ReLU is the one consumer: nobody else sees the output.
    """
    by_name = {node.name: node for node in order}
    makes, adopts = set(), set()
    for source, name in _only_readers(order).items():
        if source in by_name and joins(by_name[source].layer, by_name[name].layer):
            makes.add(source)
            adopts.add(name)
    return makes, adopts


def _adders(order):
    """Return {name of an Add of two inputs: name of the one of them that adds the other while it writes its output}."""
    by_name, found = {node.name: node for node in order}, {}
    for source, name in _only_readers(order).items():
        node = by_name[name]
        if source in by_name and len(node.inputs) == 2 and adds(by_name[source].layer, node.layer):
            found.setdefault(name, source)
    return found


def _only_readers(order):
    """Return {name of a node: name of the one that reads it}, of those that are read once."""
    readers = [(source, node.name) for node in order for source in node.inputs]
    sources = [source for source, _ in readers]
    return {source: name for source, name in readers if sources.count(source) == 1}
