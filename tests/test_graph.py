"""Graphs of layers: their gradients, what they refuse, and that they train, save and exchange with torch."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import TOLERANCE, assert_close, assert_same_bits, dtypes, memory_orders, needs_torch, normal

import nbprop
from nbprop import models, nn, optim, saving
from nbprop.model_summary import summary
from nbprop.nn.module import Module
from nbprop.nn.walk import walk
from nbprop.ops import add

# The op


@settings(max_examples=20)
@given(st.lists(st.integers(0, 7), min_size=1, max_size=4), dtypes)
def test_add_is_the_reference(shape, dtype):
    a, b = normal(shape, dtype), normal(shape, dtype, seed=1)
    expected = a + b
    with nbprop.using("reference"):
        np.testing.assert_array_equal(add.add_forward(a, b), expected)
    for (_, x), (_, z) in zip(memory_orders(a), memory_orders(b)):
        np.testing.assert_array_equal(add.add_forward(x, z), expected)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("shape", [(3, 5), (2, 7, 120, 91)])
def test_positive_part_on_the_way(shape, backend):
    a, b = normal(shape), normal(shape, seed=1)
    a[0, 1], b[0, 1] = np.nan, 1
    with nbprop.using(backend):
        y = nn.Add().forward(a, b, relu=True)
    np.testing.assert_array_equal(y, np.maximum(a + b, 0))  # keeps NaN


def test_add_is_the_same_for_any_threads():
    assert_same_bits("""
from nbprop.ops.add import add_forward
a = np.random.default_rng(0).standard_normal((3, 50001), np.float32)
def run():
    return [add_forward(a, a[::-1])]
""")


@pytest.mark.parametrize("b, message", [
    (normal((2, 4)), r"b has shape \(2, 4\); expected \(2, 3\)"),
    (normal((2, 3), np.float32), "a and b have different dtypes"),
    (np.ones((2, 3), int), "b has dtype int64"),
])  # fmt: skip
def test_add_refuses(b, message):
    with pytest.raises(ValueError, match=message):
        add.add_forward(normal((2, 3)), b)


# Gradients


def diamond():
    """Two branches of different depth, a node with three consumers, a sum of three, and a concatenation."""
    return nn.Graph({
        "stem": nn.Conv2d(3, 4, 3, padding=1),
        "tanh": nn.Tanh(),
        "left": nn.Conv2d(4, 4, 1),
        "right": (nn.Conv2d(4, 4, 3, padding=1), "tanh"),
        "deeper": nn.Sigmoid(),
        "sum": (nn.Add(), "left", "deeper", "tanh"),
        "cat": (nn.Concat(), "sum", "input", "left"),
        "out": nn.Conv2d(11, 2, 2),
    })  # fmt: skip


def relus():
    """Where a ReLU may be joined (a, sum) and where not: another consumer (b)."""
    return nn.Graph({
        "a": nn.Conv2d(3, 4, 3, padding=1),
        "relu_a": nn.ReLU(),
        "b": nn.Conv2d(4, 4, 1),
        "relu_b": nn.ReLU(),
        "sum": (nn.Add(), "b", "relu_b"),
        "relu_sum": nn.ReLU(),
    })  # fmt: skip


def unet():
    """Two levels down, two up, skips joined by channel."""
    def double(before, width):
        return nn.Sequential(nn.Conv2d(before, width, 3, padding=1), nn.ReLU(),
                             nn.Conv2d(width, width, 3, padding=1), nn.ReLU())  # fmt: skip
    return nn.Graph({
        "down1": double(1, 4), "pool1": nn.MaxPool2d(2),
        "down2": double(4, 6), "pool2": nn.MaxPool2d(2),
        "bottom": double(6, 8),
        "up2": nn.Upsample(scale_factor=2), "skip2": (nn.Concat(), "up2", "down2"), "join2": double(14, 6),
        "up1": nn.Upsample(scale_factor=2), "skip1": (nn.Concat(), "up1", "down1"), "join1": double(10, 4),
        "mask": nn.Conv2d(4, 1, 1),
    })  # fmt: skip


@pytest.mark.parametrize("make", [diamond, relus, unet], ids=lambda make: make.__name__)
def test_gradients_are_central_differences(make):
    nbprop.manual_seed(3)
    model = make()
    channels = next(model.parameters()).shape[1]
    assert nbprop.gradcheck(model, normal((2, channels, 8, 12)), entries=30).error < 1e-7


def test_a_node_read_twice():
    model = nn.Graph({"twice": (nn.Add(), "input", "input")})
    x = normal((2, 3))
    np.testing.assert_array_equal(model(x), 2 * x)
    np.testing.assert_array_equal(model.backward(x), 2 * x)


def test_equals_a_chain():
    def layers():
        nbprop.manual_seed(0)
        return [nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(72, 4)]

    chain = nn.Sequential(*layers())
    graph = nn.Graph({str(i): layer for i, layer in enumerate(layers())})
    x, dy = normal((5, 3, 8, 8), np.float32), normal((5, 4), np.float32)
    np.testing.assert_array_equal(graph(x), chain(x))
    for wish in (True, False):
        dx, expected = graph.backward(dy, wish), chain.backward(dy, wish)
        np.testing.assert_array_equal(graph.grad, chain.grad)
        if wish:
            np.testing.assert_array_equal(dx, expected)
        else:
            assert dx is None
    assert graph.state_dict().keys() == chain.state_dict().keys()


def test_a_residual_is_a_graph():
    nbprop.manual_seed(0)
    inner, shortcut = nn.Linear(3, 5, dtype=np.float64), nn.Linear(3, 5, dtype=np.float64)
    model = nn.Residual(inner, shortcut)
    x = normal((2, 3))
    np.testing.assert_allclose(model(x), inner(x) + shortcut(x), rtol=1e-15)
    assert [name for name, _ in model.named_parameters()] == ["inner.weight", "inner.bias", "shortcut.weight",
                                                              "shortcut.bias"]
    identity = nn.Residual(nn.Sequential(nn.Linear(3, 3), nn.Tanh()))
    assert nbprop.gradcheck(identity, x).error < 1e-8


def test_which_relus_are_joined():
    model = relus()
    assert (model.makes_relu, model.adopts) == ({"a", "sum"}, {"relu_a", "relu_sum"})
    x = normal((2, 3, 5, 4), np.float32)
    with nbprop.using("reference"):
        expected = model(x)
    assert_close(model(x), expected, 1e-6)


def block(second, last=nn.Add, dtype=np.float32):
    nbprop.manual_seed(0)
    return nn.Graph({
        "conv": nn.Conv2d(3, 4, 3, padding=1, dtype=dtype), "norm": nn.BatchNorm2d(4, dtype=dtype),
        "skip": (second, "input"), "sum": (last(), "norm", "skip"), "relu": nn.ReLU(),
    })  # fmt: skip


def _step(model, x, dy):
    return model(x), model.backward(dy), model.grad, *model.state_dict().values()


def test_which_norms_add():
    assert block(nn.Conv2d(3, 4, 1)).adders == block(nn.BatchNorm2d(3)).adders == {"sum": "norm"}
    assert [graph.adders for graph in models.resnet20().modules() if isinstance(graph, nn.Graph)] == \
        [{}] + 9 * [{"add": "bn2"}]
    norm = {"norm": nn.BatchNorm2d(3)}
    assert nn.Graph(norm | {"sum": (nn.Add(), "norm", "norm")}).adders == {}
    assert nn.Graph(norm | {"sum": (nn.Add(), "norm", "input", "input")}).adders == {}
    assert nn.Graph(norm | {"both": (nn.Concat(), "norm", "input")}).adders == {}
    assert nn.Graph(norm | {"relu": nn.ReLU(), "sum": (nn.Add(), "norm", "relu")}).adders == {}

    class Plain(nn.BatchNorm2d):
        def forward(self, x):
            return super().forward(x)

    class Double(nn.Add):
        def forward(self, *xs):
            return 2 * super().forward(*xs)

    assert nn.Graph({"norm": Plain(3), "sum": (nn.Add(), "input", "norm")}).adders == {}
    assert block(nn.Conv2d(3, 4, 1), Double).adders == {}


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("training", [True, False])
def test_a_norm_that_adds_is_a_norm_and_an_addition(backend, training):
    joined, apart = block(nn.Conv2d(3, 4, 1)), block(nn.Conv2d(3, 4, 1))
    apart.load_state_dict(joined.state_dict())
    apart.adders = {}
    x, dy = normal((2, 3, 7, 9), np.float32), normal((2, 4, 7, 9), np.float32, 1)
    with nbprop.using(backend):
        for _ in range(2):
            for found, expected in zip(*(_step(model.train(training), x, dy) for model in (joined, apart))):
                # The reference rounds to float32 once, and twice where the addition is a pass of its own.
                assert_close(found, expected, 0 if backend == "cpu" else 1e-5)
    x[0, 0, 3, 3] = np.nan
    model = nn.Graph({"norm": nn.BatchNorm2d(3).eval(), "sum": (nn.Add(), "norm", "input"), "relu": nn.ReLU()})
    assert np.isnan(model(x)).sum() == 1  # a NaN passes


def test_the_gradient_of_a_norm_that_adds():
    nbprop.gradcheck(block(nn.Conv2d(3, 4, 1, dtype=np.float64), dtype=np.float64), normal((2, 3, 5, 4)), entries=60)


def test_a_norm_that_adds_refuses_by_name():
    with pytest.raises(ValueError, match=r"^node sum \(Add\), which reads norm and skip: the inputs have shapes "
                                         r"\(2, 4, 5, 5\) and \(2, 4, 3, 3\)"):
        block(nn.Conv2d(3, 4, 3))(normal((2, 3, 5, 5), np.float32))
    skip = nn.AvgPool2d(2), "input"
    swapped = nn.Graph({"norm": nn.BatchNorm2d(3), "skip": skip, "sum": (nn.Add(), "skip", "norm")})
    with pytest.raises(ValueError, match=r"^node sum \(Add\), which reads skip and norm: the inputs have shapes "
                                         r"\(2, 3, 2, 2\) and \(2, 3, 5, 5\)"):
        swapped(normal((2, 3, 5, 5), np.float32))
    model = nn.Graph({"norm": nn.BatchNorm2d(4), "sum": (nn.Add(), "norm", "input")})
    with pytest.raises(ValueError, match=r"^node norm \(BatchNorm2d\), which reads input: x has 3 channels"):
        model(normal((2, 3, 5, 5), np.float32))
    with pytest.raises(ValueError, match=r"^node norm \(BatchNorm2d\), which reads input: x has shape \(4, 5, 5\)"):
        model(normal((4, 5, 5), np.float32))
    layer, x = nn.BatchNorm2d(3), normal((2, 3, 5, 5), np.float32)
    with pytest.raises(ValueError, match=r"added has shape \(3, 5, 5\); expected \(2, 3, 5, 5\)"):
        layer.forward(x, added=x[0])
    with pytest.raises(ValueError, match="x and added have different dtypes"):
        layer.forward(x, added=x.astype(np.float64))
    dy = layer.forward(x, True, x)
    with pytest.raises(ValueError, match="relu is True behind a forward pass with `added`; expected False"):
        layer.backward(dy, relu=True)


def test_a_walk_through_a_graph_whose_norm_added():
    model = nn.Graph({"norm": nn.GroupNorm(1, 3), "sum": (nn.Add(), "norm", "input")})
    x = normal((2, 3, 5, 5), np.float32)
    expected = model(x)
    (_, _, _, normed), (_, _, (first, _), y) = walk(model, x)
    assert first is normed and y is not first
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(first + x, expected)


@pytest.mark.parametrize("shape", [(2, 4, 3, 5), (3, 6)])
def test_what_is_added_in_any_order_of_memory(shape):
    layer, x = nn.GroupNorm(2, shape[1]), normal(shape, np.float32)
    expected = layer(x)
    for _, added in memory_orders(normal(x.shape, np.float32, 1)):
        before = added.copy()
        np.testing.assert_array_equal(layer.forward(x, added=added), expected + added)
        np.testing.assert_array_equal(added, before)


class Witness(Module):
    """Passes everything on, and says what it was asked for."""

    def __init__(self):
        self.asked = []

    def forward(self, x):
        return x

    def backward(self, dy, input_gradient=True):
        self.asked.append(input_gradient)
        return dy if input_gradient else None


def test_without_a_wish_for_dx_nothing_above_the_parameters_runs():
    above, below = Witness(), Witness()
    first = nn.Conv2d(2, 2, 1)
    model = nn.Graph({"above": above, "first": first, "below": below, "sum": (nn.Add(), "below", "above")})
    x = normal((1, 2, 3, 3), np.float32)
    model.forward(x)
    assert model.backward(x, input_gradient=False) is None
    assert (above.asked, below.asked) == ([], [True])
    assert first.plan(x).dx is None  # its dx was never computed
    assert model.backward(x).shape == x.shape
    assert (above.asked, below.asked) == ([True], [True, True])


# One flat vector, buffers allocated once


def test_parameters_lie_in_one_vector_and_inner_vectors_are_gone():
    block = nn.Residual(nn.Sequential(nn.Linear(3, 3), nn.Tanh()))
    model = nn.Graph({"first": nn.Linear(3, 3), "block": block})
    for p in model.parameters():
        assert np.shares_memory(p.data, model.data)
        assert np.shares_memory(p.grad, model.grad)
    assert block.data is None and block.nodes["inner"].layer.grad is None


def test_a_step_allocates_no_arrays():
    model = diamond()
    x, dy = normal((4, 3, 9, 8), np.float32), normal((4, 2, 8, 7), np.float32)
    for _ in range(2):
        model.forward(x)
        model.backward(dy)
    only_arrays = tracemalloc.DomainFilter(inclusive=True, domain=np.lib.tracemalloc_domain)
    tracemalloc.start()
    model.forward(x)
    model.backward(dy)
    taken = tracemalloc.take_snapshot().filter_traces([only_arrays]).traces
    tracemalloc.stop()
    assert not taken


def test_changing_shapes_and_empty_batches():
    model = diamond()
    for n in (4, 1, 0, 4):
        x = normal((n, 3, 6, 6), np.float32)
        y = model.forward(x)
        assert (y.shape, model.backward(y).shape) == ((n, 2, 5, 5), x.shape)
    model.backward(model.forward(normal((0, 3, 6, 6), np.float32)))
    assert not model.grad.any()


# What is refused


def linear():
    return nn.Linear(3, 3)


SHARED = nn.Linear(3, 3)
BAD = {
    "cycle": ({"a": (nn.Add(), "input", "c"), "b": linear(), "c": linear()},
              r"the nodes a -> b -> c -> a form a cycle, each reading the one before"),
    "itself": ({"a": (linear(), "a")}, "the nodes a -> a form a cycle"),
    "unused": ({"a": linear(), "b": (linear(), "input"), "c": (linear(), "a")},
               "the output c does not depend on b; remove what is unused"),
    "unknown": ({"a": (linear(), "x")}, "node a reads 'x'; expected 'input' or one of the nodes a"),
    "two places": ({"a": SHARED, "b": SHARED},
                   "one module, Linear, stands in two places, nodes a and b; make a second one"),
    "two places inside": ({"a": SHARED, "b": nn.Sequential(SHARED)}, "stands in two places, nodes a and b"),
    "no module": ({"a": "Linear"}, "node a is 'Linear'; expected an nbprop Module"),
    "one input": ({"a": nn.Add()}, r"node a \(Add\) reads input; expected at least two"),
    "two inputs": ({"a": linear(), "b": (linear(), "a", "input")},
                   r"node b \(Linear\) reads a, input; expected one"),
    "dot": ({"a.b": linear()}, "a node is called 'a.b'; expected a name without a dot"),
    "input": ({"input": linear()}, "a node is called 'input'"),
    "empty": ({}, "expected a dict of at least one name and layer"),
    "list": ([linear()], "expected a dict"),
}  # fmt: skip


@pytest.mark.parametrize("nodes, message", BAD.values(), ids=BAD)
def test_refuses(nodes, message):
    with pytest.raises(ValueError, match=message):
        nn.Graph(nodes)


def test_refuses_an_unknown_output():
    with pytest.raises(ValueError, match="output is 'b'; expected one of the nodes a"):
        nn.Graph({"a": linear()}, output="b")


@pytest.mark.parametrize("nodes, message", [
    ({"a": nn.Conv2d(3, 4, 3), "s": (nn.Add(), "a", "input")},
     r"node s \(Add\), which reads a and input: the inputs have shapes \(2, 4, 4, 4\) and \(2, 3, 6, 6\)"),
    ({"a": nn.Conv2d(3, 4, 3), "c": (nn.Concat(), "a", "input")},
     r"node c \(Concat\), which reads a and input: the inputs have shapes .* differ in axis 1"),
    ({"a": nn.Conv2d(3, 4, 3), "b": nn.Conv2d(3, 4, 3)},
     r"node b \(Conv2d\), which reads a: x has 4 channels \(shape \(2, 4, 4, 4\)\); expected 3"),
])  # fmt: skip
def test_shape_clashes_name_the_node(nodes, message):
    with pytest.raises(ValueError, match=message):
        nn.Graph(nodes)(normal((2, 3, 6, 6), np.float32))


def test_merging_layers_refuse():
    with pytest.raises(ValueError, match="Add got 1 inputs; expected at least 2"):
        nn.Add()(normal((2, 3)))
    with pytest.raises(ValueError, match="different dtypes"):
        nn.Concat()(normal((2, 3)), normal((2, 3), np.float32))
    layer = nn.Add()
    layer(normal((2, 3)), normal((2, 3)))
    with pytest.raises(ValueError, match=r"dy has shape \(2, 4\); expected \(2, 3\)"):
        layer.backward(normal((2, 4)))


# Kept, shown, trained


def test_comes_back_from_disk(tmp_path):
    model = nn.Sequential(diamond(), nn.Residual(nn.Conv2d(2, 2, 1), shortcut=nn.Tanh()))
    nbprop.save(model, tmp_path / "m.safetensors")
    again = nbprop.load(tmp_path / "m.safetensors")
    x = normal((2, 3, 6, 6), np.float32)
    np.testing.assert_array_equal(again(x), model.eval()(x))
    assert saving.describe(again) == saving.describe(model)


def test_summary_has_a_row_for_each_layer():
    rows = summary(nn.Sequential(diamond(), nn.Residual(nn.ReLU())), (3, 6, 6))
    assert [row.layer for row in rows] == [
        "0.stem Conv2d", "0.tanh Tanh", "0.left Conv2d", "0.right Conv2d", "0.deeper Sigmoid", "0.sum Add",
        "0.cat Concat", "0.out Conv2d", "1.inner ReLU", "1.add Add"]  # fmt: skip


def test_learns_the_digits():
    nbprop.manual_seed(0)
    train, test = nbprop.data.digits()
    model = nn.Graph({
        "stem": nn.Conv2d(1, 16, 3, padding=1), "relu": nn.ReLU(),
        "block": nn.Residual(nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 1))),
        "last": nn.ReLU(), "pool": nn.MaxPool2d(2), "flatten": nn.Flatten(), "linear": nn.Linear(256, 10),
    })  # fmt: skip
    optimizer = optim.Adam(model.parameters(), 3e-3)
    trainer = nbprop.Trainer(model, nn.CrossEntropyLoss(), optimizer, progress=False)
    assert trainer.fit(train, test, epochs=3)[-1]["validation_accuracy"] > 0.95


# ResNet-20


def torch_resnet20():
    """He et al.'s network as it is usually written in PyTorch."""
    import torch
    from torch import nn as tnn

    class Block(tnn.Module):
        def __init__(self, before, width, stride):
            super().__init__()
            self.conv1 = tnn.Conv2d(before, width, 3, stride, 1, bias=False)
            self.bn1 = tnn.BatchNorm2d(width)
            self.conv2 = tnn.Conv2d(width, width, 3, padding=1, bias=False)
            self.bn2 = tnn.BatchNorm2d(width)
            self.shortcut = tnn.Sequential()
            if stride != 1:
                self.shortcut = tnn.Sequential(tnn.Conv2d(before, width, 1, stride, bias=False),
                                               tnn.BatchNorm2d(width))  # fmt: skip

        def forward(self, x):
            y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
            return torch.relu(y + self.shortcut(x))

    class Net(tnn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.bn1 = tnn.Conv2d(3, 16, 3, padding=1, bias=False), tnn.BatchNorm2d(16)
            for i, (before, width, stride) in enumerate([(16, 16, 1), (16, 32, 2), (32, 64, 2)], 1):
                blocks = Block(before, width, stride), Block(width, width, 1), Block(width, width, 1)
                setattr(self, f"layer{i}", tnn.Sequential(*blocks))
            self.linear = tnn.Linear(64, 10)

        def forward(self, x):
            x = self.layer3(self.layer2(self.layer1(torch.relu(self.bn1(self.conv1(x))))))
            return self.linear(x.mean((2, 3)))

    return Net()


def test_resnet20_has_its_published_size():
    model = nbprop.models.resnet20()
    convolutions = [p for p in model.parameters() if len(p.shape) == 4]
    assert len(convolutions) == 19 + 2  # the projections beside
    assert sum(p.size for p in model.parameters()) == 272_474
    assert nbprop.models.resnet20(1, (9, 14), 7)(normal((2, 1, 9, 14), np.float32)).shape == (2, 7)


@needs_torch
def test_resnet20_is_torchs():
    import torch

    from nbprop.gradient_check import in_float64

    nbprop.manual_seed(1)
    ours, theirs = in_float64(nbprop.models.resnet20(3, 16)), torch_resnet20().double()
    theirs.load_state_dict({name: torch.from_numpy(a) for name, a in ours.state_dict().items()}, strict=True)
    x, dy = normal((3, 3, 16, 16)), normal((3, 10))
    tx = torch.from_numpy(x).requires_grad_()
    ty = theirs(tx)
    ty.backward(torch.from_numpy(dy))
    y = ours.forward(x)
    assert_close(y, ty.detach().numpy(), 1e-9)
    assert_close(ours.backward(dy), tx.grad.numpy(), 1e-9)
    gradients = {name: p.grad.numpy() for name, p in theirs.named_parameters()}
    assert [name for name, _ in ours.named_parameters()] == list(gradients)
    for name, p in ours.named_parameters():
        assert_close(p.grad, gradients[name], 1e-9)
    for name, value in theirs.state_dict().items():  # running statistics too
        np.testing.assert_allclose(ours.state_dict()[name], value.numpy(), rtol=1e-9, atol=1e-12)


def test_float32_is_float64():
    from nbprop.gradient_check import in_float64

    nbprop.manual_seed(1)
    model = diamond()
    double = in_float64(model)
    x = normal((2, 3, 7, 5), np.float32)
    y, expected = model(x), double(x.astype(np.float64))
    assert_close(y, expected, TOLERANCE[np.dtype(np.float32)])
    assert_close(model.backward(y), double.backward(expected), 1e-5)
