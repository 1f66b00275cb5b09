"""ReLU's backward pass inside its neighbours': the same as on its own, and only where it may be."""

import numpy as np
import pytest
from oracle import HAVE_TORCH, assert_close, assert_same_bits, normal

import nbprop
from nbprop import models, nn
from nbprop.nn.module import Module
from nbprop.ops.conv.choose import using_winograd

needs_torch = pytest.mark.skipif(not HAVE_TORCH, reason="torch is the second oracle")

# A chain's layers, the shape of its input, and which layer takes each ReLU over.
CHAINS = {
    "batch norm": (lambda t: [nn.BatchNorm2d(7, dtype=t), nn.ReLU()], (3, 7, 5, 9), {1: 0}),
    "no weights": (lambda t: [nn.BatchNorm2d(16, affine=False, dtype=t), nn.ReLU()], (2, 16, 4, 4), {1: 0}),
    "instance norm": (lambda t: [nn.InstanceNorm2d(3, dtype=t), nn.ReLU()], (2, 3, 31, 7), {1: 0}),
    "group norm": (lambda t: [nn.GroupNorm(2, 6, dtype=t), nn.ReLU(), nn.GroupNorm(3, 6, dtype=t)], (3, 6), {1: 0}),
    "mvn": (lambda t: [nn.MVN(), nn.ReLU()], (2, 5, 3, 4), {1: 0}),
    "many threads": (lambda t: [nn.BatchNorm2d(5, dtype=t), nn.ReLU()], (5, 5, 61, 67), {1: 0}),
    "in front": (lambda t: [nn.ReLU(), nn.MaxPool2d(2)], (2, 17, 7, 8), {0: 1}),
    "behind": (lambda t: [nn.MaxPool2d(2), nn.ReLU()], (2, 17, 7, 8), {1: 0}),
    "both": (lambda t: [nn.ReLU(), nn.MaxPool2d(2), nn.ReLU()], (2, 3, 7, 8), {0: 1, 2: 1}),
    "overlapping": (lambda t: [nn.ReLU(), nn.MaxPool2d(3, 2, 1)], (2, 7, 9, 8), {0: 1}),
    "overlapping on many threads": (lambda t: [nn.ReLU(), nn.MaxPool2d(3, 1, 1)], (3, 20, 41, 43), {0: 1}),
    "pool on many threads": (lambda t: [nn.ReLU(), nn.MaxPool2d(2)], (3, 20, 41, 43), {0: 1}),
    "dilated": (lambda t: [nn.ReLU(), nn.MaxPool2d(2, 1, 0, (2, 3), ceil_mode=True)], (1, 4, 9, 8), {0: 1}),
    "gaps": (lambda t: [nn.ReLU(), nn.MaxPool2d(2, 4, ceil_mode=True)], (1, 4, 11, 9), {0: 1}),
    "product": (lambda t: [nn.Conv2d(3, 5, 3, dtype=t), nn.ReLU(), nn.MaxPool2d(2)], (2, 3, 8, 9), {1: 2}),
    "norm and pool": (lambda t: [nn.Conv2d(3, 5, 3, bias=False, dtype=t), nn.BatchNorm2d(5, dtype=t), nn.ReLU(),
                                 nn.MaxPool2d(2)], (2, 3, 8, 9), {2: 3}),
    "two": (lambda t: [nn.Conv2d(3, 4, 1, dtype=t), nn.BatchNorm2d(4, dtype=t), nn.ReLU(), nn.Conv2d(4, 4, 1, dtype=t),
                       nn.GroupNorm(2, 4, dtype=t), nn.ReLU(), nn.Flatten()], (2, 3, 4, 5), {2: 1, 5: 4}),
}  # fmt: skip
# Those of which a product takes the ReLU in front of it over, in each of its forms.
PRODUCTS = {
    "rows": (lambda t: [nn.Linear(7, 9, dtype=t), nn.ReLU(), nn.Linear(9, 5, dtype=t)], (11, 7), {1: 2}),
    "few rows": (lambda t: [nn.ReLU(), nn.Linear(9, 5, dtype=t), nn.ReLU(), nn.Linear(5, 17, dtype=t)], (2, 9),
                 {0: 1, 2: 3}),
    "many rows": (lambda t: [nn.ReLU(), nn.Linear(300, 130, dtype=t)], (130, 300), {0: 1}),
    "pixels": (lambda t: [nn.ReLU(), nn.Conv2d(5, 70, 1, dtype=t)], (3, 5, 9, 7), {0: 1}),
    "stride": (lambda t: [nn.ReLU(), nn.Conv2d(20, 9, 3, 2, 1, dtype=t)], (3, 20, 9, 8), {0: 1}),
    "pixels left out": (lambda t: [nn.ReLU(), nn.Conv2d(20, 9, 1, 2, dtype=t)], (3, 20, 9, 8), {0: 1}),
    "groups": (lambda t: [nn.ReLU(), nn.Conv2d(12, 9, 3, groups=3, dtype=t)], (2, 12, 9, 8), {0: 1}),
    "depthwise": (lambda t: [nn.ReLU(), nn.Conv2d(35, 35, 3, padding=1, groups=35, dtype=t)], (2, 35, 9, 8), {0: 1}),
    "Winograd": (lambda t: [nn.ReLU(), nn.Conv2d(32, 47, 3, padding=1, dtype=t)], (7, 32, 13, 14), {0: 1}),
    "Winograd, many channels": (lambda t: [nn.ReLU(), nn.Conv2d(259, 256, 3, padding=1, dtype=t)], (2, 259, 7, 7),
                                {0: 1}),
    "Winograd, dilated": (lambda t: [nn.ReLU(), nn.Conv2d(33, 32, 3, dilation=2, dtype=t)], (5, 33, 15, 17), {0: 1}),
    "columns": (lambda t: [nn.ReLU(), nn.Conv2d(3, 32, 3, padding=1, dtype=t)], (16, 3, 20, 20), {0: 1}),
    "spread": (lambda t: [nn.ReLU(), nn.Conv2d(6, 16, 5, dtype=t)], (24, 6, 14, 14), {0: 1}),
    "transposed": (lambda t: [nn.ReLU(), nn.ConvTranspose2d(6, 5, 3, 2, dtype=t)], (2, 6, 5, 7), {0: 1}),
    "Winograd, transposed": (lambda t: [nn.ReLU(), nn.ConvTranspose2d(64, 40, 4, 2, 1, dtype=t)], (4, 64, 9, 9),
                             {0: 1}),
    "Winograd, short": (lambda t: [nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1, dtype=t)], (5, 16, 9, 11), {0: 1}),
}  # fmt: skip
every_chain = pytest.mark.parametrize("name", CHAINS)
every_product = pytest.mark.parametrize("name", PRODUCTS)


def chain(name, dtype):
    """Return two lists of the same layers, with scales of either sign, and the input's shape."""
    make, shape, _ = (CHAINS | PRODUCTS)[name]
    nbprop.manual_seed(1)
    first, second = make(dtype), make(dtype)
    for ours, theirs in zip(first, second):
        for i, p in enumerate(ours.parameters()):
            p.data[...] = normal(p.shape, dtype, i)
        theirs.load_state_dict(ours.state_dict())
    return first, second, shape


def values(shape, dtype, first):
    """Numbers with ties, many of them not positive, zeros of both signs; the first is given."""
    x = np.round(normal(shape, dtype), 1)
    x[x == 0.5] = -0.0
    x.flat[0] = first
    return x


def as_graph(layers):
    return nn.Graph({f"layer{i}": layer for i, layer in enumerate(layers)})


@every_chain
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("container", [lambda layers: nn.Sequential(*layers), as_graph], ids=["sequential", "graph"])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("first", [0, np.nan])
def test_the_same_as_a_pass_of_its_own(name, dtype, container, training, backend, first):
    ours, layers, shape = chain(name, dtype)
    for p in [p for both in (ours, layers) for layer in both for p in layer.parameters()]:
        p.data.flat[0] = 0  # a channel that a norm makes 0
    model = container(ours).train(training)
    with nbprop.using(backend):
        x = values(shape, dtype, first)
        y, expected = model.forward(x), x
        for layer in layers:
            expected = layer.train(training).forward(expected)
        np.testing.assert_array_equal(y, expected)
        dy = normal(y.shape, dtype, 1)
        dx, expected = model.backward(dy), dy
        for layer in reversed(layers):
            expected = layer.backward(expected)
    assert np.isnan(y).any() == bool(first)
    np.testing.assert_array_equal(dx, expected)
    for p, wanted in zip(model.parameters(), [p for layer in layers for p in layer.parameters()]):
        np.testing.assert_array_equal(p.grad, wanted.grad)


@pytest.mark.narrow
@every_product
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("force", [True, None])
def test_in_front_of_a_product(name, dtype, force):
    """Where Winograd's algorithm fits, by force and by the direct kernel: the shapes are too small for the chooser."""
    ours, layers, shape = chain(name, dtype)
    model = nn.Sequential(*ours)
    with using_winograd(force):
        x = values(shape, dtype, np.nan)
        y = x
        for layer in layers:
            y = layer.forward(y)
        np.testing.assert_array_equal(model.forward(x), y)
        dy = normal(y.shape, dtype, 1)
        dx, expected = model.backward(dy), dy
        for layer in reversed(layers):
            expected = layer.backward(expected)
    np.testing.assert_array_equal(dx, expected)
    for p, wanted in zip(model.parameters(), [p for layer in layers for p in layer.parameters()]):
        np.testing.assert_array_equal(p.grad, wanted.grad)


@pytest.mark.parametrize("name", ["rows", "few rows", "pixels left out", "groups", "transposed"])
def test_in_front_of_a_plain_product(name):
    with nbprop.using("reference"):
        ours, layers, shape = chain(name, np.float64)
        model, x = as_graph(ours), values(shape, np.float64, 0)
        dy = normal(model.forward(x).shape, np.float64, 1)
        dx, expected = model.backward(dy), dy
        for layer in layers:
            x = layer.forward(x)
        for layer in reversed(layers):
            expected = layer.backward(expected)
        np.testing.assert_array_equal(dx, expected)
    nbprop.gradcheck(model, normal(shape, seed=5), entries=30)


@pytest.mark.parametrize("name", CHAINS | PRODUCTS)
def test_which_layer_takes_it_over(name):
    layers, others, _ = chain(name, np.float32)
    expected = (CHAINS | PRODUCTS)[name][2]
    assert nn.Sequential(*layers).takers == expected
    assert as_graph(others).takers == {f"layer{relu}": f"layer{taker}" for relu, taker in expected.items()}


@every_chain
def test_without_a_wish_for_dx(name):
    for make in (lambda layers: nn.Sequential(*layers), as_graph):
        first, second, shape = chain(name, np.float32)
        model, other = make(first), make(second)
        x = normal(shape, np.float32)
        dy = normal(model.forward(x).shape, np.float32, 1)
        other.forward(x)
        other.backward(dy)
        before = list(other.parameters())
        result = model.backward(dy, input_gradient=False)
        assert result is None or not before  # a chain that learns nothing has nothing to run
        for p, wanted in zip(model.parameters(), before):
            np.testing.assert_array_equal(p.grad, wanted.grad)


@pytest.mark.parametrize("name", ["in front", "overlapping", "gaps", "dilated"])
def test_no_gradient_but_dy_that_is_not_a_number_reaches_a_winner_of_zero(name):
    (relu, pool), (_, alone), shape = chain(name, np.float32)
    x = -np.abs(normal(shape, np.float32))
    model = nn.Sequential(relu, pool)
    y = model.forward(x)
    assert not y.any()
    dy = normal(y.shape, np.float32)
    assert alone.forward(np.maximum(x, 0)).shape == y.shape and alone.backward(dy).any()
    assert not model.backward(dy).any()
    dy[0, 0, 0, 0] = np.inf
    expected = relu.backward(pool.backward(dy).copy())
    assert np.isnan(expected).any()
    np.testing.assert_array_equal(model.backward(dy), expected)


@pytest.mark.parametrize("name", [name for name in CHAINS if "threads" not in name])
@pytest.mark.parametrize("training", [True, False])
def test_gradients_are_central_differences(name, training):
    layers, _, shape = chain(name, np.float64)
    nbprop.gradcheck(nn.Sequential(*layers).train(training), normal(shape, seed=5), entries=30)


class Positive(nn.ReLU):
    """A ReLU that may do something else backward."""


class OldPool(nn.MaxPool2d):
    """A pooling whose backward does not know of ReLUs."""

    def backward(self, dy, input_gradient=True):
        return super().backward(dy, input_gradient)


@pytest.mark.parametrize("layers", [
    (nn.BatchNorm2d(2), nn.ReLU(grad_at_zero=1.0), nn.MaxPool2d(2)),
    (nn.BatchNorm2d(2), Positive(), nn.MaxPool2d(2)),
    (nn.BatchNorm2d(2), nn.LeakyReLU(), nn.MaxPool2d(2)),
    (nn.Conv2d(2, 2, 1), nn.ReLU(), OldPool(2)),
    (nn.ReLU(), nn.AvgPool2d(2), nn.BatchNorm2d(2)),
    (nn.Conv2d(2, 2, 1), nn.ReLU(), nn.BatchNorm2d(2)),  # the norm's output says nothing of the ReLU's
    (nn.Sequential(nn.BatchNorm2d(2)), nn.ReLU()),
])  # fmt: skip
def test_where_it_is_not_taken_over(layers):
    assert nn.Sequential(*layers).takers == {}


def branches(dtype=np.float64):
    """Outputs that are read twice: a norm's and a ReLU's; and a ReLU that is read twice behind a norm."""
    return nn.Graph({
        "conv": nn.Conv2d(2, 4, 1, dtype=dtype), "relu": nn.ReLU(),
        "pool": nn.MaxPool2d(2), "mean": (nn.AvgPool2d(2), "relu"), "sum": (nn.Add(), "pool", "mean"),
        "norm": nn.BatchNorm2d(4, dtype=dtype), "relu_norm": nn.ReLU(), "both": (nn.Add(), "norm", "relu_norm"),
        "group": nn.GroupNorm(2, 4, dtype=dtype), "relu_group": nn.ReLU(),
        "last": (nn.Add(), "relu_group", "relu_group"), "relu_last": nn.ReLU(), "pool_last": nn.MaxPool2d(2),
    })  # fmt: skip


def test_branches():
    model = branches()
    assert model.takers == {"relu_group": "group", "relu_last": "pool_last"}
    nbprop.gradcheck(model, normal((3, 2, 8, 8)), entries=60)
    assert sum(len(g.takers) for g in models.resnet20().modules() if isinstance(g, nn.Graph)) == 10
    assert (len(models.cifar_cnn().takers), len(models.lenet().takers)) == (5, 4)


def test_recomputed():
    first, second, shape = chain("two", np.float32)
    model, again = nn.Sequential(*first), nn.Recompute(*second)
    x = normal(shape, np.float32)
    dy = normal(model.forward(x).shape, np.float32, 1)
    again.forward(x)
    np.testing.assert_array_equal(again.backward(dy), model.backward(dy))
    np.testing.assert_array_equal(again.grad, model.grad)


class Asked(Module):
    """Refuses to be run backward with what a container did not offer it."""

    def forward(self, x):
        return x

    def backward(self, dy, input_gradient=True):
        return dy


def test_other_layers_are_not_asked():
    model = nn.Sequential(Asked(), nn.ReLU(), Asked())
    x = normal((2, 3), np.float32)
    np.testing.assert_array_equal(model.forward(x), np.maximum(x, 0))
    np.testing.assert_array_equal(model.backward(x), np.maximum(x, 0))


@needs_torch
def test_as_torch():
    import torch

    nbprop.manual_seed(0)
    ours = nn.Sequential(nn.Conv2d(3, 6, 3, dtype=np.float64), nn.BatchNorm2d(6, dtype=np.float64), nn.ReLU(),
                         nn.MaxPool2d(3, 2, 1), nn.GroupNorm(2, 6, dtype=np.float64), nn.ReLU())  # fmt: skip
    theirs = torch.nn.Sequential(torch.nn.Conv2d(3, 6, 3), torch.nn.BatchNorm2d(6), torch.nn.ReLU(),
                                 torch.nn.MaxPool2d(3, 2, 1), torch.nn.GroupNorm(2, 6), torch.nn.ReLU()).double()
    theirs.load_state_dict({name: torch.from_numpy(array) for name, array in ours.state_dict().items()})
    x = normal((4, 3, 11, 9))
    t = torch.from_numpy(np.ascontiguousarray(x)).requires_grad_(True)
    y, expected = ours.forward(x), theirs(t)
    dy = normal(y.shape, seed=1)
    expected.backward(torch.from_numpy(np.ascontiguousarray(dy)))
    assert_close(ours.backward(dy), t.grad.numpy(), 1e-12)
    for p, q in zip(ours.parameters(), theirs.parameters()):
        assert_close(p.grad + 1, q.grad.numpy() + 1, 1e-12)


def test_a_product_with_a_backward_pass_of_its_own():
    class Own(nn.Conv2d):
        def forward(self, x, relu=False):
            return super().forward(x, relu)

        def backward(self, dy, input_gradient=True, relu=False):
            return super().backward(dy, input_gradient)

    model, x = nn.Sequential(nn.ReLU(), Own(2, 3, 1), nn.ReLU()), normal((2, 2, 6, 6), np.float32)
    assert not model.takers
    assert model.backward(model.forward(x)).shape == x.shape


@pytest.mark.parametrize("base, arguments", [(nn.BatchNorm2d, (3,)), (nn.MaxPool2d, (2,))])
def test_a_subclass_with_another_forward_pass_takes_nothing_over(base, arguments):
    class Shifted(base):
        def forward(self, x):
            return super().forward(x) + np.float32(0.5)

    layers = (Shifted(*arguments), nn.ReLU()) if base is nn.BatchNorm2d else (nn.ReLU(), Shifted(*arguments))
    model, x = nn.Sequential(*layers), normal((2, 3, 6, 6), np.float32)
    assert not model.takers
    dy = normal(model.forward(x).shape, np.float32, 1)
    found = model.backward(dy).copy()
    model.forward(x)
    for layer in reversed(layers):
        dy = layer.backward(dy)
    np.testing.assert_array_equal(found, dy)


def test_same_bits_on_any_number_of_threads():
    assert_same_bits("""
import nbprop
from nbprop import nn
def run():
    rng = np.random.default_rng(0)
    nbprop.manual_seed(0)
    for layers in [(nn.BatchNorm2d(33), nn.ReLU()), (nn.GroupNorm(3, 33), nn.ReLU()), (nn.ReLU(), nn.MaxPool2d(2)),
                   (nn.ReLU(), nn.MaxPool2d(3, 2, 1)), (nn.ReLU(), nn.Conv2d(33, 32, 3, 2)),
                   (nn.ReLU(), nn.Conv2d(33, 32, 3, padding=1))]:
        model = nn.Sequential(*layers)
        y = model.forward(rng.standard_normal((3, 33, 40, 41), np.float32))
        yield model.backward(rng.standard_normal(y.shape, np.float32))
        yield from (p.grad for p in model.parameters())
""")
