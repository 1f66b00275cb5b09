"""Whole training steps: fused or not, with torch's weights and results, the same for any threads, in place."""

import copy
import re
import tracemalloc

import numba
import numpy as np
import pytest
from oracle import assert_same_bits, needs_torch, normal

import nbprop
from nbprop import data, jit, layout, models, nn, optim, scratch


def network(dtype=np.float32):
    """A bit of everything on 8 x 8 digits: stride, groups, a fused and an unfused ReLU, both poolings."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1, dtype=dtype), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, stride=(2, 1), padding=1, groups=2, bias=False, dtype=dtype), nn.AvgPool2d((1, 2)),
        nn.ReLU(), nn.Flatten(), nn.Linear(64, 20, dtype=dtype), nn.ReLU(), nn.Linear(20, 10, dtype=dtype),
    )  # fmt: skip


def torch_network():
    """The same; on one thread, as two pools of threads that spin would wait for each other."""
    import torch

    torch.set_num_threads(1)
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.MaxPool2d(2),
        torch.nn.Conv2d(8, 16, 3, stride=(2, 1), padding=1, groups=2, bias=False), torch.nn.AvgPool2d((1, 2)),
        torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(64, 20), torch.nn.ReLU(), torch.nn.Linear(20, 10),
    ).double()  # fmt: skip


def batches(count=20, size=64, dtype=np.float32):
    """The first digits, in order."""
    train, _ = data.digits()
    for i in range(count):
        part = slice(i * size, (i + 1) * size)
        yield train.images[part].astype(dtype) / 6 - 1, train.labels[part]


def train(model, dtype=np.float32, make=optim.Adam, **options):
    """Twenty steps on the digits; return the loss of each."""
    loss, optimizer = nn.CrossEntropyLoss(), make(model.parameters(), **{"lr": 0.02, **options})
    trace = []
    for x, target in batches(dtype=dtype):
        trace.append(float(loss.forward(model.forward(x), target)))
        model.backward(loss.backward(), input_gradient=False)
        optimizer.step()
    return trace


# In float64, where the plain loops give the same.
TRACE = [
    2.308872, 2.295390, 2.312626, 2.287611, 2.234246, 2.228448, 2.200758, 2.158413, 2.141736,
    2.020533, 2.005276, 1.923130, 1.723652, 1.710163, 1.636027, 1.388410, 1.343250, 1.297960,
    1.245900, 1.100943,
]  # fmt: skip


def test_trace_of_losses():
    """A fixed run: whatever moves it by more than rounding changes what the library computes."""
    nbprop.manual_seed(5)
    trace = train(network())
    np.testing.assert_allclose(trace, TRACE, rtol=1e-4)


@pytest.mark.parametrize("name", ["reference", "cpu"])
def test_reference_trains_alike(name):
    nbprop.manual_seed(5)
    with nbprop.using(name):
        trace = train(network(np.float64), np.float64)
    np.testing.assert_allclose(trace, TRACE, rtol=1e-4)


@needs_torch
def test_torch_trains_alike():
    """From one state dict, twenty steps in float64: the same losses, and weights that torch takes back."""
    import torch

    nbprop.manual_seed(1)
    ours, theirs = network(np.float64), torch_network()
    theirs.load_state_dict({name: torch.tensor(array) for name, array in ours.state_dict().items()})
    optimizer = torch.optim.SGD(theirs.parameters(), 0.3, 0.9, weight_decay=1e-3, nesterov=True)
    expected = []
    for x, target in batches(dtype=np.float64):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(theirs(torch.tensor(x)), torch.tensor(target.astype(np.int64)))
        loss.backward()
        optimizer.step()
        expected.append(loss.item())
    trace = train(ours, np.float64, optim.SGD, lr=0.3, momentum=0.9, weight_decay=1e-3, nesterov=True)
    np.testing.assert_allclose(trace, expected, rtol=1e-9)
    for name, array in theirs.state_dict().items():
        np.testing.assert_allclose(ours.state_dict()[name], array.numpy(), rtol=1e-7, atol=1e-9)


@needs_torch
def test_state_dicts_are_exchanged_with_torch():
    import torch

    ours, theirs = network(np.float64), torch_network()
    x = normal((3, 1, 8, 8))
    state = theirs.state_dict()
    assert list(state) == list(ours.state_dict())
    ours.load_state_dict({name: tensor.numpy() for name, tensor in state.items()})
    with torch.no_grad():
        np.testing.assert_allclose(ours(x), theirs(torch.tensor(np.ascontiguousarray(x))), atol=1e-12)
    nbprop.manual_seed(2)
    back = network(np.float64)
    theirs.load_state_dict({name: torch.from_numpy(array) for name, array in back.state_dict().items()})
    with torch.no_grad():
        np.testing.assert_allclose(back(x), theirs(torch.tensor(np.ascontiguousarray(x))), atol=1e-12)


@pytest.mark.parametrize("product, shape", [
    (lambda: nn.Conv2d(3, 5, 3, padding=1), (2, 3, 6, 5)),
    (lambda: nn.Conv2d(6, 6, 3, groups=6), (2, 6, 6, 5)),
    (lambda: nn.Conv2d(3, 37, 1, stride=2), (2, 3, 6, 5)),
    (lambda: nn.Linear(7, 19), (5, 7)),
])  # fmt: skip
def test_a_fused_relu_is_a_relu(product, shape):
    nbprop.manual_seed(0)
    fused, apart = nn.Sequential(product(), nn.ReLU()), (product(), nn.ReLU())
    apart[0].load_state_dict(fused[0].state_dict())
    x = normal(shape, np.float32)
    y, expected = fused.forward(x), apart[1].forward(apart[0].forward(x))
    assert (expected == 0).any() and (expected > 0).any()
    np.testing.assert_array_equal(y, expected)
    dy = normal(y.shape, np.float32, 1)
    np.testing.assert_array_equal(fused.backward(dy), apart[0].backward(apart[1].backward(dy)))
    for ours, wanted in zip(fused.parameters(), apart[0].parameters()):
        np.testing.assert_array_equal(ours.grad, wanted.grad)


def test_relu_is_fused_only_where_it_follows_a_product():
    model = network()
    assert [type(relu) for _, relu in model.pairs].count(nn.ReLU) == 2
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(grad_at_zero=1.0))
    x = np.zeros((1, 3), np.float32)
    model[0].bias.data[...] = 0
    model.forward(x)  # all zero, where this slope is 1
    np.testing.assert_array_equal(model.backward(np.ones((1, 3), np.float32)), model[0].weight.data.sum(0)[None])


def test_a_model_can_go_back_and_forth_between_shapes():
    """Buffers of one shape are not those of another: a short last batch, then a whole one."""
    nbprop.manual_seed(0)
    model, fresh = network(), network()
    fresh.load_state_dict(model.state_dict())
    for n in (4, 3, 4, 1, 0, 2, 5, 4):
        x = normal((n, 1, 8, 8), np.float32, n)
        dy = normal((n, 10), np.float32, 9)
        model.forward(x)
        dx = model.backward(dy)
        fresh.release()
        fresh.forward(x)
        np.testing.assert_array_equal(dx, fresh.backward(dy))
        np.testing.assert_array_equal(model.grad, fresh.grad)


def test_outputs_belong_to_the_caller():
    model = network()
    x = normal((2, 1, 8, 8), np.float32)
    first = model(x)
    kept = first.copy()
    train(model)
    second = model(x)
    np.testing.assert_array_equal(first, kept)
    assert not np.array_equal(second, first)


def test_weights_changed_by_hand_count():
    """Nothing keeps a packed or transformed copy of the weights."""
    model, x = network(), normal((2, 1, 8, 8), np.float32)
    model(x)
    state = {name: 2 * array for name, array in model.state_dict().items()}
    model.load_state_dict(state)
    fresh = network().load_state_dict(state)
    np.testing.assert_array_equal(model(x), fresh(x))


@pytest.mark.parametrize("make, shape, made", [
    (lambda: models.lenet(1, 12, 10), (16, 1, 12, 12), lambda p: optim.SGD(p, 0.1, momentum=0.9)),
    (network, (16, 1, 8, 8), lambda p: optim.AdamW(p, 1e-3)),
    (lambda: nn.Sequential(nn.Conv2d(16, 33, 3, padding=1), nn.ReLU(), nn.Conv2d(33, 33, 3, stride=2), nn.ReLU(),
                           nn.Conv2d(33, 10, 1), nn.Flatten(), nn.Linear(490, 10)),
     (8, 16, 16, 16), lambda p: optim.SGD(p, 0.1)),
], ids=["lenet", "mixed", "threads"])  # fmt: skip
def test_a_step_by_hand_allocates_no_array(make, shape, made):
    model, loss = make(), nn.CrossEntropyLoss()
    optimizer = made(model.parameters())
    x, target = normal(shape, np.float32), np.arange(shape[0]) % 10

    def step():
        loss.forward(model.forward(x), target)
        model.backward(loss.backward())
        optimizer.step()

    step()
    step()
    numpy_domain = tracemalloc.DomainFilter(inclusive=True, domain=np.lib.tracemalloc_domain)
    tracemalloc.start()
    try:
        step()
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        step()
        assert tracemalloc.get_traced_memory()[1] - before < 1 << 14  # far less than any array of activations
        traces = tracemalloc.take_snapshot().filter_traces([numpy_domain]).traces
        assert not traces, [str(trace) for trace in traces]
    finally:
        tracemalloc.stop()


def test_same_bits_for_any_number_of_threads():
    assert_same_bits("""
import nbprop
from nbprop import nn, optim
def run():
    nbprop.manual_seed(3)
    model = nn.Sequential(nn.Conv2d(3, 16, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 33, 3),
                          nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(33 * 49, 10))
    loss, optimizer = nn.CrossEntropyLoss(), optim.SGD(model.parameters(), 0.02, momentum=0.9)
    rng = np.random.default_rng(0)
    x, target = rng.standard_normal((8, 3, 32, 32), np.float32), np.arange(8) % 10
    trace = []
    for _ in range(3):
        trace.append(loss.forward(model.forward(x), target))
        model.backward(loss.backward(), input_gradient=False)
        optimizer.step()
    return np.array(trace), model.data, model.grad
""")


def test_same_seed_same_trace_for_any_number_of_threads():
    def run(threads):
        numba.set_num_threads(threads)
        nbprop.manual_seed(5)
        model = network()
        return train(model), [p.data.tobytes() for p in model.parameters()]

    assert run(1) == run(2)


@pytest.mark.parametrize("change", [
    lambda x: x.astype(np.float64),
    lambda x: np.asfortranarray(x),
    lambda x: np.ascontiguousarray(x),
    lambda x: np.repeat(x, 2, axis=0)[::2],
    lambda x: np.frombuffer(x.tobytes(), np.float32).reshape(x.shape),  # read-only
    lambda x: np.concatenate([np.zeros(1, np.uint8), x.ravel().view(np.uint8)])[1:].view(np.float32).reshape(x.shape),
    lambda x: x[:, :2],
    lambda x: x[0],
    lambda x: x.tolist(),
], ids=["float64", "Fortran", "C", "gaps", "read-only", "unaligned", "channels", "rank", "list"])  # fmt: skip
def test_an_array_that_looks_otherwise_than_the_last_is_looked_at_again(change):
    """Layers let arrays through that look like the last ones: after them, others are read or refused as before."""
    x = layout.channels_last(normal((2, 3, 8, 8), np.float32))
    for make in (lambda: nn.Conv2d(3, 4, 3), lambda: nn.MaxPool2d(2), nn.Flatten, nn.ReLU,
                 lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2))):
        layer = make()
        for _ in range(2):
            expected, other = layer(x), change(x)
        try:
            fresh = copy.deepcopy(layer)(other)
        except ValueError as refused:
            with pytest.raises(ValueError, match=re.escape(str(refused))):
                layer(other)
        else:
            np.testing.assert_array_equal(layer(other), fresh)
        np.testing.assert_array_equal(layer(x), expected)


def test_an_array_that_was_changed_in_place_is_looked_at_again():
    x, layer = normal((4, 6), np.float32), nn.Linear(6, 3)
    layer.forward(x)
    x.shape = 6, 4
    with pytest.raises(ValueError, match="x has 4 features"):
        layer.forward(x)


def test_another_backend_is_noticed_between_two_steps():
    model, x, dy = network(), normal((4, 1, 8, 8), np.float32), normal((4, 10), np.float32)
    y = model.forward(x).copy()
    dx = model.backward(dy).copy()
    for name in ("reference", "cpu"):
        with nbprop.using(name):
            np.testing.assert_allclose(model.forward(x), y, rtol=1e-3, atol=1e-5)
            np.testing.assert_allclose(model.backward(dy), dx, rtol=1e-3, atol=1e-5)
            products = [layer.last[0] for layer in model if isinstance(layer, nn.Linear)]
            assert all(any(key[0] == name for key in plan.work) for plan in products)


def test_another_number_of_threads_is_noticed_between_two_steps(monkeypatch):
    asked, borrow = [], scratch.borrow
    monkeypatch.setattr(scratch, "_own", scratch._Own())
    monkeypatch.setattr(scratch, "borrow", lambda *arguments: asked.append(jit.threads()) or borrow(*arguments))
    small, large = nn.Conv2d(3, 4, 3), nn.Conv2d(16, 33, 3)  # work for one thread, and for several
    for layer, shape, expected in ((small, (1, 3, 8, 8), [2]), (large, (8, 16, 32, 32), [2, 1])):
        x, results = normal(shape, np.float32), []
        asked.clear()
        for threads in (2, 1):
            numba.set_num_threads(threads)
            results.append(layer(x))
        assert asked == expected
        np.testing.assert_array_equal(*results)
