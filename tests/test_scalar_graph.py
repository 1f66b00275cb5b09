"""Scalar graphs: algorithms 6.1 and 6.2 against the path sum, and the two kinds of deltas."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbprop.scalar_graph import (
    COSINE,
    EXP,
    PRODUCT,
    SINE,
    SQUARE,
    SUM,
    Operation,
    ScalarGraph,
    UnitNetwork,
    product_layers,
)


def seed_001_example():
    """sin(w^2) + cos(w^2): "not need to differentiate w^2 twice"."""
    g = ScalarGraph(1)
    square = g.node(SQUARE, 0)
    g.node(SUM, g.node(SINE, square), g.node(COSINE, square))
    return g


def test_example_of_seed_001():
    g, w = seed_001_example(), 0.7
    assert g.forward([w]) == pytest.approx(math.sin(w * w) + math.cos(w * w))
    expected = 2 * w * math.cos(w * w) - 2 * w * math.sin(w * w)
    assert g.backward() == [pytest.approx(expected, rel=1e-14)]
    assert g.derivative_by_paths(0) == pytest.approx(expected, rel=1e-14)


@st.composite
def graphs(draw):
    g = ScalarGraph(draw(st.integers(1, 3)))
    for _ in range(draw(st.integers(1, 7))):
        known = st.integers(0, len(g.parents) - 1)
        operation = draw(st.sampled_from([SUM, PRODUCT, SQUARE, SINE, COSINE, EXP]))
        count = draw(st.integers(1, 3)) if operation in (SUM, PRODUCT) else 1
        g.node(operation, *(draw(known) for _ in range(count)))
    return g


@given(graphs(), st.lists(st.floats(-0.6, 0.6), min_size=3, max_size=3))
def test_algorithm_and_paths_and_differences_agree(g, x):
    x = x[: g.inputs]
    g.forward(x)
    table = g.backward()
    for j in range(g.inputs):
        scale = max(1.0, *map(abs, g.grad_table))
        assert g.derivative_by_paths(j) == pytest.approx(table[j], abs=1e-12 * scale)
        high, low = ([*x[:j], x[j] + h, *x[j + 1 :]] for h in (1e-6, -1e-6))
        if scale < 10:
            assert (g.forward(high) - g.forward(low)) / 2e-6 == pytest.approx(table[j], abs=1e-5)
            g.forward(x)


@pytest.mark.parametrize("depth", [1, 2, 5, 10])
def test_work_is_exponential_by_paths_and_linear_by_the_table(depth):
    g = product_layers(depth)
    assert g.paths(0) == 2**depth
    g.forward([1.1])
    g.backward()
    assert g.products == 2 + 4 * (depth - 1) + 2  # one per edge
    g.products = 0
    assert g.derivative_by_paths(0) == pytest.approx(g.grad_table[0], rel=1e-12)
    assert g.products == 2**depth * (depth + 1)  # each path on its own
    assert g.grad_table[0] == pytest.approx(2**depth * 1.1 ** (2**depth - 1), rel=1e-9)  # o = w^(2^depth)


def test_seed_001_has_32_paths():
    assert product_layers(5).paths(0) == 32


def network():
    """Two inputs, three hidden units one of which another one reads, one output that also reads an input."""
    weights = {(0, 2): 0.3, (1, 2): -0.8, (0, 3): 0.5, (2, 3): 1.2, (1, 4): 0.7, (2, 4): -0.4, (3, 5): 0.9,
               (4, 5): -1.1, (0, 5): 0.2}  # fmt: skip
    return UnitNetwork(2, weights, math.tanh, lambda a: 1 - math.tanh(a) ** 2)


def loss(net, x, target=0.25):
    return 0.5 * (net.forward(x) - target) ** 2


def test_pre_and_post_activation_deltas():
    net, x = network(), [0.4, -0.9]
    loss(net, x)
    dloss = net.h[-1] - 0.25
    pre, post = net.pre_activation_deltas(dloss), net.post_activation_deltas(dloss)
    assert sorted(pre) == [2, 3, 4, 5]
    assert sorted(post) == [0, 1, 2, 3, 4, 5]
    for i, delta in pre.items():
        assert delta == pytest.approx(post[i] * net.slope(net.a[i]), rel=1e-14)
    for i in (0, 1):  # Delta of an input is dL/dx
        high, low = ([v + h * (k == i) for k, v in enumerate(x)] for h in (1e-6, -1e-6))
        assert (loss(net, high) - loss(net, low)) / 2e-6 == pytest.approx(post[i], abs=1e-9)


def test_weight_gradients():
    net, x = network(), [0.4, -0.9]
    loss(net, x)
    gradients = net.weight_gradients(net.h[-1] - 0.25)
    for edge in net.weights:
        kept, values = net.weights[edge], []
        for h in (1e-6, -1e-6):
            net.weights[edge] = kept + h
            values.append(loss(net, x))
        net.weights[edge] = kept
        assert (values[0] - values[1]) / 2e-6 == pytest.approx(gradients[edge], abs=1e-9)


def test_both_graphs_agree():
    """The network written out as a scalar graph of pre- and post-activation nodes has the same deltas."""
    net, x = network(), [0.4, -0.9]
    net.forward(x)
    tanh = (math.tanh, lambda a: [1 - math.tanh(a) ** 2])
    g, place = ScalarGraph(2), {0: 0, 1: 1}
    pre_place = {}
    for j in range(2, net.units):
        edges = [(i, w) for (i, k), w in net.weights.items() if k == j]
        w = [weight for _, weight in edges]
        weighted = Operation(lambda *u, w=w: sum(a * b for a, b in zip(w, u)), lambda *u, w=w: w)
        pre_place[j] = g.node(weighted, *(place[i] for i, _ in edges))
        place[j] = g.node(Operation(*tanh), pre_place[j])
    assert g.forward(x) == pytest.approx(net.h[-1], rel=1e-14)
    g.backward()
    for i, delta in net.pre_activation_deltas(1.0).items():
        assert g.grad_table[pre_place[i]] == pytest.approx(delta, rel=1e-13)
    for i, delta in net.post_activation_deltas(1.0).items():
        assert g.grad_table[place[i]] == pytest.approx(delta, rel=1e-13)


def test_refuses():
    g = ScalarGraph(2)
    with pytest.raises(ValueError, match="a parent is 2; expected the number of a node, below 2"):
        g.node(SUM, 0, 2)
    with pytest.raises(ValueError, match=r"call forward\(x\) first"):
        g.backward()
    with pytest.raises(ValueError, match="x has 1 values; expected 2"):
        g.forward([1.0])
    with pytest.raises(ValueError, match="inputs is 0"):
        ScalarGraph(0)
    with pytest.raises(ValueError, match=r"an edge is \(1, 0\)"):
        UnitNetwork(1, {(1, 0): 1.0, (0, 1): 1.0}, math.tanh, math.cos)
