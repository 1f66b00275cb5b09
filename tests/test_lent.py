"""Memory that is lent: never twice at a time, again as soon as it is free, and no more of it than is in use."""

import gc
import sys
import threading
import tracemalloc

import numpy as np
import pytest
from oracle import normal

import nbprop
from nbprop import lent, nn, optim
from nbprop.nn.module import Module


@pytest.fixture
def pool(monkeypatch):
    """A pool that no other test has filled."""
    monkeypatch.setattr(lent, "_own", lent._Pool())
    return lent._own


@pytest.fixture
def all_lent(pool, monkeypatch):
    """Small arrays are lent as large ones are."""
    monkeypatch.setattr(lent, "_SMALL", 0)
    return pool


def array(kib):
    return lent.Lent((kib, 256), np.float32).take()


def address(a):
    return a.__array_interface__["data"][0]


# One array


def test_looks_like_an_empty_array(pool):
    for shape, dtype in [((3, 40, 30, 20), np.float32), ((70000,), np.float64), ((300, 400), np.float32)]:
        a, expected = lent.Lent(shape, dtype).take(), nbprop.layout.empty(shape, np.dtype(dtype))
        assert (a.shape, a.dtype, a.strides) == (expected.shape, expected.dtype, expected.strides)
        assert address(a) % 64 == 0 and a.flags.behaved


def test_small_ones_are_always_the_same():
    small = lent.Lent((4, 3, 5, 5), np.float32)
    assert small.take() is small.take()


def test_whoever_sets_its_shape_has_it_alone(pool):
    lent_array = lent.Lent((100, 256), np.float32)
    a = lent_array.take()
    where = address(a)
    a.shape = 256, 100
    del a
    b = lent_array.take()
    assert b.shape == (100, 256) and address(b) == where


def test_memory_is_free_when_nobody_refers_to_it(pool):
    a = array(100)
    assert [block.users() for block in pool.blocks] == [1]
    view = a[3:, ::2].T[None]
    where = address(a)
    del a
    assert pool.blocks[0].users() == 1 and address(array(100)) != where  # the view still lies there
    del view
    assert {address(array(100)) for _ in range(3)} <= {address(block.memory) for block in pool.blocks}
    assert [block.users() for block in pool.blocks] == [0, 0]


def test_through_whatever_holds_a_view(pool):
    class Mine(np.ndarray):
        pass

    holders = [
        lambda a: a.view(Mine)[2:], memoryview, lambda a: np.asarray(memoryview(a))[1:], lambda a: a.ctypes,
        lambda a: np.lib.stride_tricks.as_strided(a, (2, 2)), lambda a: {"kept": [a.reshape(-1)[5:6]]},
        lambda a: np.frombuffer(a, np.uint8), lambda a: a.flat, lambda a: np.broadcast_to(a, (3, *a.shape)),
    ]  # fmt: skip
    for hold in holders:
        held = hold(array(70))
        assert [block.users() > 0 for block in pool.blocks] == [True]
        del held
        gc.collect()
        assert [block.users() for block in pool.blocks] == [0]


def test_the_smallest_that_is_large_enough(pool):
    held = [array(kib) for kib in (100, 200, 400)]
    of_100, of_200, of_400 = map(address, held)
    del held[:]
    a = array(150)
    b = array(80)
    c = array(90)
    assert (address(a), address(b), address(c)) == (of_200, of_100, of_400)


def test_blocks_that_are_too_small_are_let_go(pool):
    small, kept = array(100), array(110)
    kept[...] = 7
    del small
    large = array(300)
    assert [block.memory.size >> 10 for block in pool.blocks] == [110, 300]
    assert (kept == 7).all()
    del large, kept
    lent.release()
    assert pool.blocks == []


def test_blocks_are_large_enough_for_every_gradient_to_come(pool):
    small, large = lent.Lent((100, 256), np.float32), lent.Lent((300, 256), np.float32)
    where = address(small.take())
    assert address(large.take()) == where
    lent.release()
    small.take()
    assert [block.memory.size >> 10 for block in pool.blocks] == [100]


def test_random_taking_and_dropping(pool):
    """Every array keeps what was written to it for as long as it is held."""
    rng = np.random.default_rng(0)
    held = {}
    for mark in range(2000):
        if held and rng.random() < 0.5:
            del held[rng.choice(list(held))]
        a = array(int(rng.integers(64, 400)))
        a[...] = mark
        held[mark] = a[rng.integers(4) :, 3:]
        del a
        assert all(view[0, 0] == view[-1, -1] == mark for mark, view in held.items())
        if len(held) > 12:
            held.pop(next(iter(held)))
    assert len(pool.blocks) <= 14


def test_threads_have_their_own(pool):
    results = {}

    def run(mark):
        a = array(100)
        a[...] = mark
        barrier.wait()
        results[mark] = a, len(lent._own.blocks)

    barrier = threading.Barrier(3)
    threads = [threading.Thread(target=run, args=(mark,)) for mark in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for mark, (a, blocks) in results.items():
        assert blocks == 1 and (a == mark).all()  # the array outlives its thread
    assert not pool.blocks


# Models


class Sees(Module):
    """Passes everything on, and notes where gradients lie."""

    def __init__(self, seen):
        self.seen = seen

    def forward(self, x):
        return x

    def backward(self, dy, input_gradient=True):
        self.seen.add(address(dy))
        return dy


class Branches(Module):
    """y = f(x) + g(x), written by hand, holding both gradients."""

    def __init__(self, f, g):
        self.f, self.g = f, g

    def forward(self, x):
        return self.f.forward(x) + self.g.forward(x)

    def backward(self, dy, input_gradient=True):
        a, b = self.f.backward(dy), self.g.backward(dy)
        assert not np.shares_memory(a, b) and not np.shares_memory(a, dy) and not np.shares_memory(b, dy)
        return a + b


def chain(seen):
    """Layers of one shape, some inside others."""
    def three():
        return [nn.Conv2d(8, 8, 3, padding=1), Sees(seen), nn.BatchNorm2d(8), Sees(seen), nn.ReLU(), Sees(seen)]
    inside = nn.Sequential(*three(), nn.Sequential(*three(), nn.Sequential(*three()), nn.Tanh()), *three())
    return nn.Sequential(*three(), inside, *three(), nn.Residual(nn.Sequential(*three())), *three(), Sees(seen))


def test_a_deep_chain_takes_a_few_blocks(pool):
    seen = set()
    model = chain(seen)
    x, dy = normal((4, 8, 32, 32), np.float32), normal((4, 8, 32, 32), np.float32, 1)
    for _ in range(3):
        model.forward(x)
        model.backward(dy)
    assert len(seen - {address(dy)}) <= 3 and len(pool.blocks) == 3  # dy and dx, and what a shortcut holds


def everything():
    """Every way in which gradients meet, part, and are handed on as they are."""
    nbprop.manual_seed(2)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Graph({
            "stem": nn.Conv2d(8, 4, 1), "tanh": nn.Tanh(), "left": nn.Conv2d(4, 4, 1),
            "right": (nn.Conv2d(4, 4, 3, padding=1), "tanh"), "deeper": nn.Sigmoid(),
            "sum": (nn.Add(), "left", "deeper", "tanh", "tanh"), "drop": nn.Dropout(0.2),
            "cat": (nn.Concat(), "drop", "input", "left"),
        }),
        nn.Residual(nn.Residual(nn.Sequential(nn.Conv2d(16, 16, 1), nn.PReLU()))),
        nn.Recompute(nn.Conv2d(16, 16, 1), nn.Residual(nn.ELU())), Branches(nn.Conv2d(16, 16, 1), nn.Softplus()),
        nn.LayerNorm((16, 8, 8)), nn.LayerNorm(8), nn.GroupNorm(2, 16), nn.ZeroPad2d(1), nn.AvgPool2d(2),
        nn.Upsample(scale_factor=2), nn.MaxPool2d(2), nn.Softmax(1), nn.AdaptiveAvgPool2d(4), nn.Flatten(),
        nn.Linear(256, 5), nn.ReLU(), nn.GroupNorm(1, 5),
    )  # fmt: skip


def gradients(model, steps=3):
    """What some steps leave behind, on batches of changing size; the input gradients as they came, and copied."""
    found, kept, copied = [], [], []
    for step in range(steps):
        n = (4, 2, 6)[step % 3]
        x, dy = normal((n, 3, 8, 8), np.float32, step), normal((n, 5), np.float32, step)
        found.append(model.forward(x).copy())
        dx = model.backward(dy)
        found.append(model.grad.copy())
        kept.append(dx)
        copied.append(dx.copy())
    return found, kept, copied


def test_same_bits_as_with_arrays_of_their_own(all_lent, monkeypatch):
    model = everything()
    found, kept, copied = gradients(model)
    for a, b in zip(kept, copied):
        np.testing.assert_array_equal(a, b)  # valid for as long as they are held
    monkeypatch.setattr(lent, "_SMALL", sys.maxsize)
    expected, _, dxs = gradients(everything())
    for a, b in zip(found + copied, expected + dxs):
        np.testing.assert_array_equal(a, b)


def test_memory_does_not_grow(all_lent):
    model, loss = everything(), nn.CrossEntropyLoss()
    optimizer = optim.SGD(model.parameters(), 1e-3)
    sizes = []
    for step in range(12):
        x = normal((4 + step % 2, 3, 8, 8), np.float32)
        loss.forward(model.forward(x), np.arange(len(x)) % 5)
        model.backward(loss.backward(), input_gradient=False)
        optimizer.step()
        assert not any(block.users() for block in all_lent.blocks)
        sizes.append(sorted(address(block.memory) for block in all_lent.blocks))
    assert len(sizes[-1]) <= 7
    assert sizes[-1] == sizes[-2] == sizes[3]  # the very same memory
    model.release()
    assert not all_lent.blocks


@pytest.mark.parametrize("make, shape", [
    (lambda: nbprop.models.resnet20(), (16, 3, 32, 32)), (lambda: nbprop.models.cifar_cnn(), (32, 3, 32, 32)),
    (lambda: nbprop.models.lenet(), (64, 1, 28, 28)),
], ids=["resnet20", "cifar_cnn", "lenet"])  # fmt: skip
def test_a_step_allocates_nothing(pool, make, shape):
    model = make()
    x, dy = normal(shape, np.float32), normal((shape[0], 10), np.float32)
    for _ in range(4):  # the first finds its memory, and what comes again is taped
        model.forward(x)
        model.backward(dy, input_gradient=False)
    numpy_domain = tracemalloc.DomainFilter(inclusive=True, domain=np.lib.tracemalloc_domain)
    tracemalloc.start()
    try:
        model.forward(x)
        model.backward(dy, input_gradient=False)
        assert not tracemalloc.take_snapshot().filter_traces([numpy_domain]).traces
    finally:
        tracemalloc.stop()
