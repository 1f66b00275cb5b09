"""Launches that a container puts off: nobody sees arrays without what they are to hold."""

import contextlib
import functools
import queue
import subprocess
import sys
import threading

import numba
import numpy as np
import pytest
from oracle import normal

import nbprop
from nbprop import defer, jit, lent, nn, optim, tape, trainer
from nbprop.nn.module import Module

SHAPE = (8, 8, 24, 24)


def block():
    return [nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()]


def steps(model, n=4, backward=True):
    """What some steps leave, the last ones replayed."""
    x, found = normal(SHAPE, np.float32), []
    dy = None
    for _ in range(n):
        y = model.forward(x)
        dy = normal(y.shape, np.float32, 1) if dy is None else dy
        found.append(y.copy())
        if backward:
            found.append(model.backward(dy).copy())
            found += [p.grad.copy() for p in model.parameters()]
    return found


def assert_same(model, twin, backward=True):
    """A model does what its twin does where nothing is put off."""
    twin.load_state_dict(model.state_dict())
    mine = steps(model, backward=backward)
    for a, b in zip(mine, without(lambda: steps(twin, backward=backward)), strict=True):
        np.testing.assert_array_equal(a, b)


def without(run):
    """Run where no container may put anything off."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (nn.sequential, nn.graph, trainer.fit):
            patch.setattr(module, "Together", lambda: contextlib.nullcontext(False))
        return run()


@pytest.fixture
def replays(monkeypatch):
    """How many spans each replay had."""
    counts, replay = [], jit.replay
    monkeypatch.setattr(jit, "replay", lambda spans, count: counts.append(count // 2) or replay(spans, count))
    return counts


def test_a_chain_is_one_replay_each_way(replays):
    model = nn.Sequential(*block(), nn.Residual(nn.Sequential(*block(), *block())), nn.MaxPool2d(2))
    steps(model, 3)
    del replays[:]
    model.forward(x := normal(SHAPE, np.float32))
    del replays[:], x
    x, dy = normal(SHAPE, np.float32), normal((8, 8, 12, 12), np.float32)
    x, dy = nbprop.layout.channels_last(x), nbprop.layout.channels_last(dy)
    for _ in range(3):
        model.forward(x)
        model.backward(dy)
    del replays[:]
    model.forward(x)
    model.backward(dy)
    assert len(replays) == 2 and min(replays) > 6


class Looks(Module):
    """Looks at what comes, and passes it on."""

    def __init__(self):
        self.seen = []

    def forward(self, x):
        self.seen.append(x.copy())
        return x

    def backward(self, dy, input_gradient=True):
        self.seen.append(dy.copy())
        return dy


class Doubles(nn.Conv2d):
    """A subclass that goes on with what its base has computed."""

    def forward(self, x, relu=False):
        y = super().forward(x)
        y *= 2
        return np.maximum(y, 0) if relu else y

    def backward(self, dy, input_gradient=True):
        return super().backward(2 * dy, input_gradient)


class Inside(Module):
    """Layers called one by one, and what they return added by hand."""

    def __init__(self, *layers):
        self.first, self.second = nn.Sequential(*layers), nn.Conv2d(8, 8, 1)

    def children(self):
        return [("first", self.first), ("second", self.second)]

    def forward(self, x):
        return self.first.forward(x) + self.second.forward(x)

    def backward(self, dy, input_gradient=True):
        return self.first.backward(dy) + self.second.backward(dy)


class Turns(Module):
    """Hands on in another memory order: who reads it copies it."""

    def forward(self, x):
        return np.ascontiguousarray(x)

    def backward(self, dy, input_gradient=True):
        return np.ascontiguousarray(dy)


def others():
    return {
        "doubles": lambda: [Doubles(8, 8, 3, padding=1), nn.ReLU()],
        "inside": lambda: [Inside(*block(), nn.Residual(nn.Sequential(*block())))],
        "turns": lambda: [Turns(), nn.Conv2d(8, 8, 3, padding=1), Turns(), nn.Tanh(), Turns()],
        "flatten": lambda: [nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8 * 144, 70), nn.ReLU(), nn.Linear(70, 3)],
        "recompute": lambda: [nn.Recompute(*block(), *block())],
        "norms": lambda: [nn.InstanceNorm2d(8), nn.GroupNorm(2, 8), nn.LayerNorm((8, 24, 24)), nn.MVN()],
        "branches": lambda: [nn.Graph({
            "a": nn.Conv2d(8, 8, 1), "b": (nn.Conv2d(8, 4, 1), "input"), "c": (nn.Concat(), "a", "b"), "d": nn.PReLU(),
            "e": (nn.Add(), "d", "c", "c"), "f": nn.Dropout(0.0), "g": nn.Softmax(1)})],
        "pooling": lambda: [nn.AvgPool2d(3, 1, 1), nn.MaxPool2d(3, 1, 1), nn.Upsample(scale_factor=2), nn.ZeroPad2d(1),
                            nn.AdaptiveMaxPool2d(5), nn.AdaptiveAvgPool2d(2)],
        "products": lambda: [nn.ConvTranspose2d(8, 8, 4, 2, 1), nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU(),
                             nn.Conv2d(8, 8, 3, groups=8), nn.ReLU(), nn.Conv2d(8, 8, 3, dilation=2)],
    }  # fmt: skip


@pytest.mark.parametrize("name", others())
def test_as_if_nothing_was_put_off(name):
    def make():
        return nn.Sequential(*block(), *others()[name](), *([nn.Sigmoid()] if name != "flatten" else []))
    assert_same(make(), make())


def test_who_looks_sees():
    looks, twin = [Looks(), Looks()], [Looks(), Looks()]
    model = nn.Sequential(*block(), looks[0], *block(), looks[1], *block())
    assert_same(model, nn.Sequential(*block(), twin[0], *block(), twin[1], *block()))
    for mine, other in zip(looks, twin):
        assert len(mine.seen) == 8
        for a, b in zip(mine.seen, other.seen):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("wraps", [True, False])
def test_a_pass_that_somebody_wrapped(wraps, monkeypatch):
    seen, before = [], nn.BatchNorm2d.forward

    def watched(layer, x, relu=False, added=None):
        seen.append(x.copy())
        y = before(layer, x, relu, added)
        seen.append(y.copy())
        return y

    if wraps:
        watched = functools.wraps(before)(watched)
    model = nn.Sequential(*block(), *block())
    steps(model, 3)
    monkeypatch.setattr(nn.BatchNorm2d, "forward", watched)
    steps(model, 2)
    expected = list(seen)
    del seen[:]
    without(lambda: steps(model, 2))
    for a, b in zip(expected, seen, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_pass_of_one_layer_that_somebody_wrapped():
    model, seen = nn.Sequential(*block(), *block()), []
    steps(model, 3)
    pool, before = model[4], model[4].forward
    pool.forward = lambda x, relu=False: seen.append(x.copy()) or before(x, relu)
    steps(model, 2)
    np.testing.assert_array_equal(seen[0], seen[1])
    assert np.isfinite(seen[0]).all() and np.ptp(seen[0]) > 0


def test_a_layer_that_refuses_leaves_nothing_put_off():
    class Refuses(Module):
        def forward(self, x):
            raise ValueError("no")

    model = nn.Sequential(*block(), nn.Sequential(*block()))
    steps(model, 3)
    bad = nn.Sequential(*block(), Refuses())
    x = normal(SHAPE, np.float32)
    for _ in range(4):
        with pytest.raises(ValueError, match="no"):
            bad.forward(x)
        assert tape.own.pending is None
    expected = without(lambda: bad[0].forward(x).copy())
    np.testing.assert_array_equal(bad[0].forward(x), expected)


def test_a_layer_that_asks_for_other_threads():
    class Asks(Module):
        def __init__(self, threads):
            self.threads = threads

        def forward(self, x):
            numba.set_num_threads(self.threads)
            return x

        def backward(self, dy, input_gradient=True):
            return dy

    before = numba.get_num_threads()
    try:
        def make():
            return nn.Sequential(*block(), Asks(1), *block(), Asks(before), *block())
        assert_same(make(), make())
    finally:
        numba.set_num_threads(before)


class Takes(Module):
    """Asks for memory in its backward pass, and is marked, as if it was ours: nothing is done before."""

    __module__ = "nbprop.takes"
    megabytes = 0

    def __init__(self):
        self.put_off = []

    @defer.looks_not
    def forward(self, x):
        return x

    @defer.looks_not
    def backward(self, dy, input_gradient=True):
        if self.megabytes:
            self.put_off.append(len(tape.own.pending.spans))
            lent.Lent((self.megabytes << 20,), np.uint8).take()
            assert not tape.own.pending.spans
        return dy


def test_memory_that_is_let_go_was_written_before(monkeypatch):
    """A gradient larger than any so far ends the free blocks, among them some that are still to be written."""
    monkeypatch.setattr(lent, "_own", lent._Pool())
    model = nn.Sequential(*block(), Takes(), *block())
    expected = steps(model)[-1]
    for model[3].megabytes in (8, 16, 32):
        np.testing.assert_array_equal(steps(model)[-1], expected)
    assert max(model[3].put_off) > 0


class Drops(Module):
    """Does something between the passes of its neighbours, and is marked, as if it was ours: nothing is done before."""

    __module__ = "nbprop.drops"

    def __init__(self, act):
        self.act, self.put_off = act, []

    @defer.looks_not
    def forward(self, x):
        self.put_off.append(len(tape.own.pending.spans))
        self.act()
        self.put_off.append(len(tape.own.pending.spans))
        return x


def test_an_input_that_is_gone_meanwhile_was_read_before():
    """As with model.forward(batches.pop()), if the first layer does not keep it either."""
    pool, x = nn.AvgPool2d(2), nbprop.layout.channels_last(normal(SHAPE, np.float32))
    expected = [pool.forward(x).copy() for _ in range(4)][-1]
    with defer.Together():
        y = pool.forward(x)
        assert len(tape.own.pending.spans) == 2
        del x
        assert not tape.own.pending.spans
        np.testing.assert_array_equal(y, expected)


def test_a_plan_that_is_gone_meanwhile_was_done_before():
    conv = nn.Conv2d(8, 8, 3, padding=1)
    drops = Drops(lambda: None)
    model = nn.Sequential(conv, drops, nn.ReLU())
    x = nbprop.layout.channels_last(normal(SHAPE, np.float32))
    expected = [model.forward(x).copy() for _ in range(4)][-1]
    y = conv.last[0].y
    y[...] = 0
    drops.act = conv.forget
    model.forward(x)
    assert drops.put_off[-2:] == [2, 0]
    np.testing.assert_array_equal(np.maximum(y, 0), expected)


def perceptron(loss, groups=False):
    """A trainer of a small chain that has no Flatten, which copies."""
    nn.init.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, 5))
    params = [{"params": layer.parameters()} for layer in (model[0], model[2])] if groups else model.parameters()
    return trainer.Trainer(model, loss, optim.SGD(params, lr=1e-3, momentum=0.9))


class OwnLoss:
    """A user's loss."""

    def forward(self, y, target):
        self.d = y - np.eye(y.shape[1], dtype=y.dtype)[target]
        return np.float32((self.d**2).sum())

    def backward(self):
        return 2 * self.d


class Halved(nn.CrossEntropyLoss):
    """A subclass that goes on with what its base has computed."""

    def forward(self, logits, target):
        return 0.5 * super().forward(logits, target)

    def backward(self, dy=1.0):
        return super().backward(0.5 * dy)


LOSSES = [nn.CrossEntropyLoss, functools.partial(nn.CrossEntropyLoss, label_smoothing=0.1, reduction="sum"), OwnLoss,
          Halved]  # fmt: skip
LABELS = np.arange(30) % 5


def test_losses_of_their_own_are_never_put_off():
    loss, y = nn.CrossEntropyLoss(reduction="none"), normal((30, 5), np.float32)
    expected = [loss.forward(y, LABELS).copy() for _ in range(4)][-1]
    with defer.Together():
        np.testing.assert_array_equal(loss.forward(y, LABELS), expected)
        for bad in (np.where(LABELS == 3, 9, LABELS), np.full((30, 5), 9, np.float32)):
            for _ in range(3):
                with pytest.raises(ValueError, match="target has"):
                    loss.forward(y, bad)


@pytest.mark.parametrize("groups", [False, True])
@pytest.mark.parametrize("loss", LOSSES)
def test_a_trainer_does_what_it_does_where_nothing_is_put_off(loss, groups):
    x = normal((30, 20), np.float32)

    def losses():
        mine = perceptron(loss(), groups)
        return [mine.step(x, LABELS) for _ in range(6)], mine.model.data.copy()

    (mine, weights), (theirs, same_weights) = losses(), without(losses)
    assert mine == theirs and all(type(value) is float for value in mine)
    np.testing.assert_array_equal(weights, same_weights)


def test_a_step_is_one_replay(replays):
    mine, x = perceptron(nn.CrossEntropyLoss()), normal((30, 20), np.float32)
    for _ in range(3):
        mine.step(x, LABELS)
    del replays[:]
    mine.step(x, LABELS)
    assert len(replays) == 1 and replays[0] > 7


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("kind", ["labels", "probabilities"])
def test_a_bad_target_is_refused_before_the_weights_change(kind, reduction):
    loss = nn.CrossEntropyLoss(ignore_index=-1, reduction=reduction)
    mine, x = perceptron(loss), normal((30, 20), np.float32)
    good = LABELS.copy() if kind == "labels" else np.eye(5, dtype=np.float32)[LABELS]
    for _ in range(4):
        mine.step(x, good)
    weights, bads = mine.model.data.copy(), (5, -2, 1 << 40) if kind == "labels" else (-1.0, 7.0, np.nan)
    for bad in bads:
        target = good.copy()
        target[7] = bad
        for _ in range(3):
            with pytest.raises(ValueError, match=r"target has .* at 7; expected"):
                mine.step(x, target)
    np.testing.assert_array_equal(mine.model.data, weights)
    good[7] = bads[-1]  # in the arrays of the steps before, whose launches are replayed
    with pytest.raises(ValueError, match=r"target has .* at 7; expected"):
        mine.step(x, good)


def test_nothing_is_said_at_the_end():
    script = """
import numpy as np
from nbprop import nn
model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2))
x = np.ones((4, 3, 20, 20), np.float32)
for _ in range(4):
    y = model.forward(x)
    model.backward(y)
model.me = model
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


class Receives(nn.Conv2d):
    """A subclass that looks in what the passes of its base call."""

    seen = ()

    def receive(self, dy, y):
        self.seen = (*self.seen, dy.copy())
        return super().receive(dy, y)


def test_a_subclass_that_looks_where_a_pass_of_ours_calls_it():
    model = nn.Sequential(*block(), Receives(8, 8, 1), nn.Tanh(), *block())
    x = nbprop.layout.channels_last(normal(SHAPE, np.float32))
    dy = nbprop.layout.channels_last(normal(SHAPE, np.float32, 1))
    for _ in range(4):
        model.forward(x)
        model.backward(dy)
    dy *= 2
    model.backward(dy)
    np.testing.assert_array_equal(model[3].seen[-1], 2 * model[3].seen[-2])


def test_running_statistics_that_another_layer_has_yet_to_write():
    def make():
        first, second = nn.BatchNorm2d(8), nn.BatchNorm2d(8)
        second.running_mean, second.running_var = first.running_mean, first.running_var
        second.eval()
        return nn.Sequential(first, second)
    assert_same(make(), make(), backward=False)


def test_gradients_that_go_to_another_thread():
    """The block's owner finds it free when the last container lets go of dy, while its launches are put off."""
    top, low = nn.Sequential(*block(), nn.Tanh()), nn.Sequential(nn.Tanh(), *block(), *block())
    x = nbprop.layout.channels_last(normal(SHAPE, np.float32))
    passed, found, steps_ = queue.Queue(1), [], 60

    def work():
        for _ in range(steps_):
            low.backward(passed.get())
            found.append(low.grad.copy())

    low.forward(x)
    top.forward(x)
    thread = threading.Thread(target=work)
    thread.start()
    for step in range(steps_):
        passed.put(top.backward(np.full(SHAPE, step, np.float32)))
    thread.join()
    for step, grad in enumerate(found):
        dx = top.backward(np.full(SHAPE, step, np.float32)).copy()
        low.backward(dx)
        np.testing.assert_array_equal(grad, low.grad)


def test_an_interrupt_before_the_end_is_over_with_the_next_pass(monkeypatch):
    model = nn.Sequential(*block(), *block())
    x = nbprop.layout.channels_last(normal(SHAPE, np.float32))
    expected = [model.forward(x).copy() for _ in range(4)][-1]

    def interrupted(together, *raised):
        raise KeyboardInterrupt

    with monkeypatch.context() as m, pytest.raises(KeyboardInterrupt):
        m.setattr(defer.Together, "__exit__", interrupted)
        model.forward(x)
    assert tape.own.pending is not None
    np.testing.assert_array_equal(model.forward(x), expected)
    assert tape.own.pending is None


def test_an_interrupt_of_a_step_is_over_with_the_next_pass(monkeypatch):
    mine, x = perceptron(nn.CrossEntropyLoss()), normal((30, 20), np.float32)
    for _ in range(4):
        mine.step(x, LABELS)
    expected = mine.model.forward(x).copy()

    def interrupted(together, *raised):
        raise KeyboardInterrupt

    with monkeypatch.context() as m, pytest.raises(KeyboardInterrupt):
        m.setattr(defer.Together, "__exit__", interrupted)
        mine.step(x, LABELS)
    assert tape.own.pending is not None
    mine.model[2].last[0].y[...] = 0
    np.testing.assert_array_equal(mine.model.forward(x), expected)
    assert tape.own.pending is None
    mine.step(x, LABELS)


def test_layers_on_their_own_do_at_once(replays):
    layer, x = nn.Conv2d(8, 8, 3, padding=1), normal(SHAPE, np.float32)
    x = nbprop.layout.channels_last(x)
    expected = layer.forward(x).copy()
    for _ in range(3):
        layer.last[0].y[...] = 0
        np.testing.assert_array_equal(layer.forward(x), expected)
    assert replays and tape.own.pending is None
