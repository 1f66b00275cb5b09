"""Calls that are prepared once: whatever else changes between two of them is noticed."""

import copy
import gc
import pickle
import threading
import weakref

import numba
import numpy as np
import pytest
from oracle import normal

import nbprop
from nbprop import jit, lent, nn, optim
from nbprop.ops import dense, flat
from nbprop.ops.conv.choose import using_winograd
from nbprop.ops.max_pool import cpu as max_pool
from nbprop.repeat import Repeated

LAYERS = {
    "conv": (lambda: nn.Conv2d(4, 6, 3, padding=1), (1, 4, 8, 8)),
    "without bias": (lambda: nn.Conv2d(4, 6, 3, bias=False), (1, 4, 8, 8)),
    "depthwise": (lambda: nn.Conv2d(4, 4, 3, groups=4), (1, 4, 8, 8)),
    "conv_transpose": (lambda: nn.ConvTranspose2d(4, 6, 3, stride=2), (1, 4, 5, 5)),
    "a row": (lambda: nn.Linear(12, 7), (1, 12)),
    "rows": (lambda: nn.Linear(12, 7), (5, 12)),
    "apart": (lambda: nn.MaxPool2d(2), (2, 4, 6, 6)),
    "overlapping": (lambda: nn.MaxPool2d(3, 1), (2, 4, 6, 6)),
    "relu": (lambda: nn.ReLU(), (2, 4, 6, 6)),
    "tanh": (lambda: nn.Tanh(), (2, 9)),
    "chain": (lambda: nn.Sequential(nn.Conv2d(4, 6, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(54, 5),
                                    nn.ReLU(), nn.Linear(5, 3)), (1, 4, 8, 8)),
}  # fmt: skip
every_layer = pytest.mark.parametrize("make, shape", LAYERS.values(), ids=LAYERS)


def passes(layer, x, dy):
    """Both passes: copies of y, dx and the parameters' gradients."""
    y = layer.forward(x).copy()
    return [y, layer.backward(dy).copy(), *(p.grad.copy() for p in layer.parameters())]


def gradient(layer, shape):
    return normal(layer(np.zeros(shape, np.float32)).shape, np.float32)


def assert_as_fresh(layer, x, dy):
    """What has run before makes no difference: a copy has no buffers, and has prepared nothing."""
    for mine, fresh in zip(passes(layer, x, dy), passes(copy.deepcopy(layer), x.copy("K"), dy.copy("K"))):
        np.testing.assert_array_equal(mine, fresh)


def warm(make, shape):
    """A layer that has been called twice with the arrays that come along."""
    layer = make()
    x, dy = normal(shape, np.float32), gradient(layer, shape)
    passes(layer, x, dy)
    passes(layer, x, dy)
    return layer, x, dy


@every_layer
def test_other_values_and_other_arrays(make, shape):
    layer, x, dy = warm(make, shape)
    x *= -2
    dy += 1
    assert_as_fresh(layer, x, dy)
    others = x + 1, dy - 3
    for arrays in ((x, others[1]), (others[0], dy), (x, dy), others):
        assert_as_fresh(layer, *arrays)


@every_layer
def test_another_shape_and_back(make, shape):
    layer, x, dy = warm(make, shape)
    wider = 2 * shape[0], *shape[1:]
    assert_as_fresh(layer, normal(wider, np.float32), gradient(layer, wider))
    assert_as_fresh(layer, x, dy)


@every_layer
def test_another_memory_order(make, shape):
    layer, x, dy = warm(make, shape)
    assert_as_fresh(layer, np.ascontiguousarray(x), np.ascontiguousarray(dy))
    assert_as_fresh(layer, np.asfortranarray(x), np.asfortranarray(dy))


@every_layer
def test_another_backend(make, shape):
    layer, x, dy = warm(make, shape)
    before = passes(layer, x, dy)
    with nbprop.using("reference"):
        assert_as_fresh(layer, x, dy)
        for plain, tuned in zip(passes(layer, x, dy), before):
            np.testing.assert_allclose(plain, tuned, rtol=1e-4, atol=1e-5)
    for after, tuned in zip(passes(layer, x, dy), before):
        np.testing.assert_array_equal(after, tuned)


@every_layer
def test_another_thread_of_python(make, shape):
    layer, x, dy = warm(make, shape)
    before, found = passes(layer, x, dy), []
    thread = threading.Thread(target=lambda: found.extend(passes(layer, x, dy)))
    thread.start()
    thread.join()
    for mine, other in zip(before, found, strict=True):
        np.testing.assert_array_equal(mine, other)


@pytest.mark.parametrize("name", ["conv", "conv_transpose", "a row", "rows"])
def test_weights_in_another_order(name):
    """What is then a copy is none that is kept."""
    layer, x, dy = warm(*LAYERS[name])
    layer.weight.data = np.ascontiguousarray(layer.weight.data)
    passes(layer, x, dy)
    before = passes(layer, x, dy)
    layer.weight.data[...] *= 2
    layer.bias.data[...] *= 2
    y, dx, *_ = passes(layer, x, dy)
    np.testing.assert_array_equal(y, 2 * before[0])
    np.testing.assert_array_equal(dx, 2 * before[1])


def test_a_part_of_something_large_is_not_kept():
    layer, x, _ = warm(*LAYERS["rows"])
    large = np.zeros((100_000, 7), np.float32)
    layer.backward(large[:5])
    alive = weakref.ref(large)
    del large
    assert alive() is None
    large = np.zeros((100_000, 12), np.float32)
    layer.forward(large[:5])
    layer.forward(x)
    alive = weakref.ref(large)
    del large
    assert alive() is None


def test_each_thread_of_python_has_its_scratch_memory():
    layer, x, dy = warm(*LAYERS["conv"])
    thread = threading.Thread(target=passes, args=(layer, x, dy))
    thread.start()
    thread.join()
    here, there = layer.last[0].work.values()
    assert here is not there


@every_layer
def test_parameters_that_move(make, shape):
    """Into a container's vectors, into an optimiser's, and by hand."""
    layer, x, dy = warm(make, shape)
    parameters = list(layer.parameters())
    nn.Sequential(layer, nn.Linear(1, 1))
    for p in parameters:
        p.data[...] += 1
    assert_as_fresh(layer, x, dy)
    if parameters:
        optim.SGD(parameters[::-1])
        for p in parameters:
            p.data[...] *= -1
        assert_as_fresh(layer, x, dy)
        parameters[0].data, parameters[0].grad = parameters[0].data + 1, parameters[0].grad.copy("K")
        expected = passes(layer, x, dy)
        layer.forget()
        for mine, fresh in zip(expected, passes(layer, x, dy)):
            np.testing.assert_array_equal(mine, fresh)


@every_layer
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_copies_keep_nothing_of_it(make, shape, duplicate):
    layer, x, dy = warm(make, shape)
    before, other = passes(layer, x, dy), duplicate(layer)
    for p in other.parameters():
        p.data[...] += 1
    passes(other, x, dy)
    passes(other, 2 * x, dy)
    for after, expected in zip(passes(layer, x, dy), before):
        np.testing.assert_array_equal(after, expected)


def test_another_algorithm_by_force():
    layer, x, dy = warm(lambda: nn.Conv2d(16, 16, 3, padding=1), (1, 16, 12, 12))
    direct = passes(layer, x, dy)
    with using_winograd(True):
        assert_as_fresh(layer, x, dy)
        assert any((tiled != plain).any() for tiled, plain in zip(passes(layer, x, dy), direct))
    with nbprop.exact_convolution():
        assert_as_fresh(layer, x, dy)
    for after, plain in zip(passes(layer, x, dy), direct):
        np.testing.assert_array_equal(after, plain)


def test_another_number_of_threads():
    """Small arrays with much to compute ask for it at every call; without, one thread does all."""
    layer, asked = nn.Linear(1024, 1024), []
    x, dy = normal((1, 1024), np.float32), normal((1, 1024), np.float32)
    assert dense.splits(2 * 1024 * 1024) and lent.small(x.dtype, x.shape)
    passes(layer, x, dy)
    launch = dense.launch(1 << 30, lambda *arguments: asked.append(arguments), x)
    before = numba.get_num_threads()
    try:
        for threads in (1, before):
            numba.set_num_threads(threads)
            assert_as_fresh(layer, x, dy)
            launch()
    finally:
        numba.set_num_threads(before)
    assert [tasks for _, tasks in asked] == [1, before]


def test_small_is_work_for_one_thread(monkeypatch):
    """So a launch that is kept may have the number of tasks in it."""
    monkeypatch.setattr(jit, "threads", lambda: 16)
    largest = next(n for n in range(1 << 20, 0, -1) if lent.small(np.dtype(np.float16), (n,)))
    assert flat.tasks(largest) == 1


def test_small_calls_are_prepared_once(monkeypatch):
    prepared, settle = [], max_pool.max_pool2d_forward.settle
    monkeypatch.setattr(max_pool.max_pool2d_forward, "settle", lambda *a: prepared.append(a[0]) or settle(*a))
    layer, x = nn.MaxPool2d(2), normal((1, 4, 6, 6), np.float32)
    x = layer.enter(x)[0]  # channels-last
    for _ in range(3):
        layer.forward(x)
    assert len(prepared) == 1
    layer.forward(x.copy("K"))
    layer.forward(x)
    assert len(prepared) == 3


@pytest.mark.parametrize("make, shape", [(lambda: nn.MaxPool2d(2), (1, 8, 128, 128)), (nn.ReLU, (1, 8, 64, 64)),
                                         (lambda: nn.Linear(512, 512), (64, 512))])  # fmt: skip
def test_large_arrays_are_let_go(make, shape):
    layer = make()
    x, dy = normal(shape, np.float32), gradient(layer, shape)
    layer.forward(x)
    layer.backward(dy)
    of = weakref.ref(dy)
    del dy
    gc.collect()
    assert of() is None


def test_a_gradient_that_was_changed_in_place_is_looked_at_again():
    layer, _, dy = warm(lambda: nn.Linear(6, 2), (3, 6))
    dy = dy.reshape(3, 2)
    layer.backward(dy)
    dy.shape = 2, 3
    with pytest.raises(ValueError, match="dy has shape"):
        layer.backward(dy)


def test_functions_without_a_preparation_are_called_alike():
    x, y = normal((4,), np.float32), np.empty(4, np.float32)
    call = Repeated("add", "add_forward", True)
    for _ in range(3):
        call.run(x, x, y, False)
        np.testing.assert_array_equal(y, 2 * x)
        x += 1
