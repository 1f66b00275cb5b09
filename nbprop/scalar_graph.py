"""Graphs of scalars in plain Python: algorithms 6.1 and 6.2 of seed 002, beside seed 001's sum over paths.

    g = ScalarGraph(1)                       # sin(w^2) + cos(w^2), seed 001
    square = g.node(SQUARE, 0)               # nodes are numbers: 0 is the input
    g.node(SUM, g.node(SINE, square), g.node(COSINE, square))
    g.forward([0.5])                         # the value of the last node
    g.backward()                             # its derivatives by the inputs
    g.derivative_by_paths(0)                 # the same, over all paths; g.products counts the work of both

`UnitNetwork` has the same for units with weights on their edges: seed 001's pre- and post-activation deltas.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

__all__ = ["COSINE", "EXP", "PRODUCT", "SINE", "SQUARE", "SUM", "Operation", "ScalarGraph", "UnitNetwork",
           "product_layers"]  # fmt: skip


class Operation(NamedTuple):
    """A function of scalars, and the list of its partial derivatives by each of them."""

    value: Callable
    partials: Callable


SUM = Operation(lambda *u: sum(u), lambda *u: [1.0] * len(u))
PRODUCT = Operation(lambda *u: math.prod(u),
                    lambda *u: [math.prod(u[:i] + u[i + 1 :]) for i in range(len(u))])
SQUARE = Operation(lambda u: u * u, lambda u: [2 * u])
SINE = Operation(math.sin, lambda u: [math.cos(u)])
COSINE = Operation(math.cos, lambda u: [-math.sin(u)])
EXP = Operation(math.exp, lambda u: [math.exp(u)])


class ScalarGraph:
    """Scalars u[0], u[1], ...: first inputs, then functions of those before; the last is the output.

    Parameters
    ----------
    inputs : int
        The nodes 0 to inputs - 1.

    Attributes
    ----------
    u : list of float
        The values of the nodes, after `forward`.
    grad_table : list of float
        The derivatives of the output by every node, after `backward`.
    products : int
        Multiplications by a local derivative since it was last set to 0.
    """

    def __init__(self, inputs):
        if inputs < 1:
            raise ValueError(f"inputs is {inputs}; expected at least 1")
        self.inputs, self.operations, self.parents = inputs, [None] * inputs, [()] * inputs
        self.u, self.grad_table, self.products = None, None, 0

    def node(self, operation, *parents):
        """Add a node that applies `operation` to nodes that are there already; return its number."""
        for parent in parents:
            if not 0 <= parent < len(self.parents):
                raise ValueError(f"a parent is {parent}; expected the number of a node, below "
                                 f"{len(self.parents)}")
        self.operations.append(operation)
        self.parents.append(parents)
        return len(self.parents) - 1

    def forward(self, x):
        """Algorithm 6.1: compute all nodes in order; return the last."""
        if len(x) != self.inputs:
            raise ValueError(f"x has {len(x)} values; expected {self.inputs}, one for each input")
        self.u = list(x)
        for i in range(self.inputs, len(self.parents)):
            self.u.append(self.operations[i].value(*(self.u[j] for j in self.parents[i])))
        return self.u[-1]

    def backward(self):
        """Algorithm 6.2: return the output's derivatives by the inputs, with one product for each edge.

            grad_table[j] = sum over i with j in Pa(i) of grad_table[i] du[i]/du[j]
        """
        edges = self._edges()
        self.grad_table = [0.0] * len(self.u)
        self.grad_table[-1] = 1.0
        for j in reversed(range(len(self.u) - 1)):
            for i, z in edges[j]:
                self.grad_table[j] += self.grad_table[i] * z
                self.products += 1
        return self.grad_table[: self.inputs]

    def derivative_by_paths(self, j):
        """Seed 001's lemma: return the output's derivative by node j as a sum over all paths.

            S(j, o) = sum over paths P from j to o of the product of z(i, k) over the edges (i, k) of P

        Each path is multiplied out on its own, as the lemma says: exponential in depth.
        """
        edges, total = self._edges(), 0.0
        for path in self._paths(edges, j):
            product = 1.0
            for z in path:
                product *= z
                self.products += 1
            total += product
        return total

    def _paths(self, edges, j):
        """Yield every path from node j to the output, as the list of its local derivatives z."""
        if j == len(self.u) - 1:
            yield []
        for i, z in edges[j]:
            yield from ([z, *path] for path in self._paths(edges, i))

    def paths(self, j):
        """Return the number of paths from node j to the output."""
        counts = [0] * len(self.parents)
        counts[-1] = 1
        for i in reversed(range(len(self.parents))):
            for parent in self.parents[i]:
                counts[parent] += counts[i]
        return counts[j]

    def _edges(self):
        """Return for each node j its edges (i, z(j, i) = du[i]/du[j]) to the nodes that read it."""
        if self.u is None:
            raise ValueError("the nodes have no values yet; call forward(x) first")
        edges = [[] for _ in self.u]
        for i in range(self.inputs, len(self.u)):
            partials = self.operations[i].partials(*(self.u[j] for j in self.parents[i]))
            for j, z in zip(self.parents[i], partials):
                edges[j].append((i, z))
        return edges


def product_layers(depth, width=2):
    """Return seed 001's example: `depth` layers of nodes, each the product of all nodes before it.

    There are width^depth paths from its one input to its output: 32 for depth 5 and width 2.
    """
    g = ScalarGraph(1)
    before = (0,)
    for _ in range(depth):
        before = tuple(g.node(PRODUCT, *before) for _ in range(width))
    g.node(PRODUCT, *before)
    return g


class UnitNetwork:
    """Units h[i] = phi(a[i]), a[j] = sum of w[i, j] h[i] over edges (i, j); the last unit is the output o.

    Parameters
    ----------
    inputs : int
        Units 0 to inputs - 1; their h are given.
    weights : dict
        (i, j) with i < j, and the weight of the edge.
    phi, slope : function
        The activation, and its derivative by a.

    Attributes
    ----------
    a, h : list of float
        Pre- and post-activation values, after `forward`.
    """

    def __init__(self, inputs, weights, phi, slope):
        self.inputs, self.weights, self.phi, self.slope = inputs, dict(weights), phi, slope
        self.units = 1 + max(j for _, j in self.weights)
        for i, j in self.weights:
            if not 0 <= i < j or j < inputs:
                raise ValueError(f"an edge is {(i, j)}; expected one to a later unit, and not to an input")
        self.a = self.h = None

    def forward(self, x):
        """Return the output h[o] for the inputs x."""
        self.a, self.h = [None] * self.inputs, list(x)
        for j in range(self.inputs, self.units):
            self.a.append(sum(w * self.h[i] for (i, k), w in self.weights.items() if k == j))
            self.h.append(self.phi(self.a[j]))
        return self.h[-1]

    def pre_activation_deltas(self, dloss):
        """Return dL/da for every unit that is no input, from `dloss` = dL/dh[o]. Seed 001:

            delta(o, o) = dL/do phi'(a_o),    delta(i, o) = phi'(a_i) sum over j of w[i, j] delta(j, o)
        """
        delta = {self.units - 1: dloss * self.slope(self.a[-1])}
        for i in reversed(range(self.inputs, self.units - 1)):
            sums = sum(w * delta[j] for (k, j), w in self.weights.items() if k == i)
            delta[i] = self.slope(self.a[i]) * sums
        return delta

    def post_activation_deltas(self, dloss):
        """Return dL/dh for every unit, inputs too, from `dloss` = dL/dh[o]. Seed 001:

            Delta(o, o) = dL/do,    Delta(i, o) = sum over j of w[i, j] Delta(j, o) phi'(a_j)
        """
        delta = {self.units - 1: dloss}
        for i in reversed(range(self.units - 1)):
            onward = ((w, j) for (k, j), w in self.weights.items() if k == i)
            delta[i] = sum(w * delta[j] * self.slope(self.a[j]) for w, j in onward)
        return delta

    def weight_gradients(self, dloss):
        """Return dL/dw[i, j] = h[i] delta(j, o) for every edge."""
        delta = self.pre_activation_deltas(dloss)
        return {(i, j): self.h[i] * delta[j] for i, j in self.weights}
