"""Launches that are replayed: whatever else changes between two calls is noticed."""

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
from nbprop import jit, layout, nn, optim, scratch
from nbprop.ops.conv.choose import using_winograd
from nbprop.ops.max_pool import cpu as max_pool
from nbprop.repeat import Repeated
from nbprop.tape import launches

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
    "means": (lambda: nn.AvgPool2d(2), (2, 4, 6, 6)),
    "overlapping means": (lambda: nn.AvgPool2d(3, 2, 1), (2, 4, 6, 6)),
    "one mean": (lambda: nn.AdaptiveAvgPool2d(1), (2, 4, 6, 6)),
    "adaptive": (lambda: nn.AdaptiveMaxPool2d(2), (2, 4, 7, 6)),
    "batch norm": (lambda: nn.BatchNorm2d(4), (2, 4, 6, 6)),
    "its momentum": (lambda: nn.BatchNorm2d(4, momentum=None), (2, 4, 6, 6)),
    "instance norm": (lambda: nn.InstanceNorm2d(4), (3, 4, 6, 6)),
    "group norm": (lambda: nn.GroupNorm(2, 4), (3, 4, 6, 6)),
    "winograd": (lambda: nn.Conv2d(32, 64, 3, padding=1), (4, 32, 28, 28)),
    "in stages": (lambda: nn.Conv2d(128, 128, 3, padding=1), (2, 128, 14, 14)),
    "few channels": (lambda: nn.Conv2d(3, 32, 3, padding=1), (8, 3, 32, 32)),
    "lenet_c1": (lambda: nn.Conv2d(1, 6, 5, padding=2), (64, 1, 28, 28)),
    "lenet_c2": (lambda: nn.Conv2d(6, 16, 5), (64, 6, 14, 14)),
    "stride": (lambda: nn.Conv2d(32, 64, 3, stride=2, padding=1), (4, 32, 28, 28)),
    "without taps": (lambda: nn.Conv2d(16, 32, 1, stride=2), (4, 16, 32, 32)),
    "depthwise and large": (lambda: nn.Conv2d(32, 32, 3, padding=1, groups=32), (4, 32, 28, 28)),
    "deconv": (lambda: nn.ConvTranspose2d(32, 16, 4, stride=2, padding=1), (2, 32, 14, 14)),
    "many rows": (lambda: nn.Linear(200, 300), (128, 200)),
    "large maps": (lambda: nn.Sequential(nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2), nn.InstanceNorm2d(16),
                                         nn.AvgPool2d(2)), (4, 16, 48, 48)),
    "blocks": (lambda: nn.Sequential(
        nn.Conv2d(8, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Residual(nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
                                  nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16))), nn.ReLU(),
        nn.Residual(nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.Conv2d(16, 32, 1, stride=2)),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 5)), (8, 8, 24, 24)),
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
    other = copy.deepcopy(layer)
    for mine, fresh in zip(passes(layer, x, dy), passes(other, x.copy("K"), dy.copy("K")), strict=True):
        np.testing.assert_array_equal(mine, fresh)
    for mine, fresh in zip(layer.state_dict().values(), other.state_dict().values(), strict=True):
        np.testing.assert_array_equal(mine, fresh)


def warm(make, shape):
    """A layer that has been called with the arrays that come along, until it replays."""
    layer = make()
    x, dy = layout.channels_last(normal(shape, np.float32)), layout.channels_last(gradient(layer, shape))
    for _ in range(3):
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
            np.testing.assert_allclose(plain, tuned, rtol=0, atol=1e-4 * max(1, np.abs(tuned).max()))
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


@pytest.mark.parametrize("name", ["conv", "winograd", "few channels", "conv_transpose", "a row", "rows", "depthwise"])
def test_a_bias_that_is_no_run_of_memory(name):
    layer, x, _ = warm(*LAYERS[name])
    expected, wide = layer.forward(x).copy(), np.zeros(2 * layer.bias.data.size, np.float32)
    wide[::2] = layer.bias.data
    layer.bias.data = wide[::2]
    for _ in range(3):
        np.testing.assert_array_equal(layer.forward(x), expected)
    wide += 1
    np.testing.assert_allclose(layer.forward(x), expected + 1, atol=1e-5)


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


@every_layer
def test_another_number_of_threads(make, shape):
    layer, x, dy = warm(make, shape)
    before = numba.get_num_threads()
    try:
        for threads in (1, before):
            numba.set_num_threads(threads)
            for _ in range(3):
                assert_as_fresh(layer, x, dy)
    finally:
        numba.set_num_threads(before)


@every_layer
def test_scratch_memory_that_others_wrote_to_and_that_grew(make, shape, monkeypatch):
    monkeypatch.setattr(scratch, "_own", scratch._Own())
    layer, x, dy = warm(make, shape)
    (memory,) = scratch.borrow([1], np.dtype(np.float32))
    memory.base.view(np.uint8)[:] = 255
    assert_as_fresh(layer, x, dy)
    (larger,) = scratch.borrow([memory.base.size], np.dtype(np.float32))
    assert larger.base is not memory.base
    larger[:] = np.nan
    for _ in range(3):
        assert_as_fresh(layer, x, dy)


@every_layer
def test_what_comes_again_is_replayed(make, shape, monkeypatch):
    layer, x, dy = warm(make, shape)
    called, launch = [], jit.Driver.__call__
    monkeypatch.setattr(jit.Driver, "__call__", lambda driver, *a: called.append(driver.__name__) or launch(driver, *a))
    layer.forward(x)
    layer.backward(dy)
    assert not set(called) - AS_EVER


# Behind a Flatten that copies nothing every array is a view of its own; and a mean of all batches counts them.
AS_EVER = {"_give_rows", "_spread_rows", "correlate_items", "_outer_items", "_remember"}


def test_calls_are_taped_when_they_come_again(monkeypatch):
    called, function = [], max_pool.max_pool2d_forward
    monkeypatch.setattr(max_pool, "max_pool2d_forward", launches(lambda *a: called.append(a[0]) or function(*a)))
    layer, x = nn.MaxPool2d(2), normal((1, 4, 6, 6), np.float32)
    x = layer.enter(x)[0]  # channels-last
    for _ in range(4):
        layer.forward(x)
    assert len(called) == 2
    other = x.copy("K")
    for array in (other, x, x, other, other):
        layer.forward(array)
    assert len(called) == 4  # x is replayed until `other` has come twice


def test_an_array_in_the_place_of_another():
    """Python gives the next array the identity of one that is gone, and NumPy its memory or another's."""
    layer, held, seen = nn.ReLU(), [], set()
    for size in range(200):
        x = np.full((64, 64), size - 100, np.float32)
        seen.add(id(x))
        for _ in range(3):
            assert layer.forward(x)[0, 0] == max(size - 100, 0)
        held.append(np.empty(64 * 64 + size % 3, np.float32))
        del x
    assert len(seen) < 200


@pytest.mark.parametrize("make, shape", [(lambda: nn.MaxPool2d(2), (1, 8, 128, 128)), (nn.ReLU, (1, 8, 64, 64)),
                                         (lambda: nn.Linear(512, 512), (64, 512))])  # fmt: skip
def test_large_arrays_are_let_go(make, shape):
    _layer, _, dy = warm(make, shape)
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


def test_functions_that_do_more_than_launch_are_called():
    x, y = normal((4,), np.float32), np.empty(4, np.float32)
    call = Repeated("add", "add_forward")
    with nbprop.using("reference"):
        for _ in range(4):
            call.run(x, x, y, False)
            np.testing.assert_array_equal(y, 2 * x)
            x += 1


def test_numbers_are_known_by_identity():
    x, y = normal((4,), np.float32), np.empty(4, np.float32)
    call = Repeated("dropout", "dropout_forward")
    found = []
    for step in range(8):
        call.run(x, y, 0.5, 7, 1000 + step // 2)
        found.append(y.copy())
    for a, b in zip(found[::2], found[1::2]):
        np.testing.assert_array_equal(a, b)
    assert len({a.tobytes() for a in found}) > 1
