"""Update rules against torch, groups in memory, resuming, and the gradient norm."""

import numpy as np
import pytest
from oracle import HAVE_TORCH, TOLERANCE, assert_close, needs_torch, normal

import nbprop
from nbprop import backend
from nbprop.nn.module import Module, Parameter
from nbprop.nn.sequential import Sequential
from nbprop.ops import update
from nbprop.optim import SGD, Adam, AdamW, grad_norm

CASES = [
    (SGD, {"lr": 0.1}),
    (SGD, {"lr": 0.1, "weight_decay": 0.01}),
    (SGD, {"lr": 0.1, "momentum": 0.9}),
    (SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1}),
    (SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    (Adam, {}),
    (Adam, {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1}),
    (AdamW, {}),
    (AdamW, {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1}),
]
cases = pytest.mark.parametrize("kind, options", CASES, ids=lambda v: getattr(v, "__name__", None))


class Affine(Module):
    def __init__(self, O, C, dtype=np.float64):
        self.weight = Parameter(normal((O, C, 3, 3), dtype), memory=(2, 3, 1, 0))
        self.bias = Parameter(normal((O,), dtype))


def train(make, shapes, steps=5, dtype=np.float64):
    """Run steps with gradients drawn anew each time; return the parameters after each."""
    parameters = [Parameter(normal(shape, dtype)) for shape in shapes]
    optimizer = make(parameters)
    trace = []
    for step in range(steps):
        for p in parameters:
            p.grad[...] = normal(p.shape, dtype, seed=step + 1)
        optimizer.step()
        trace.append([p.data.copy() for p in parameters])
    return trace


@needs_torch
@cases
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_as_torch(kind, options, dtype):
    import torch

    shapes = [(3, 5), (7,), (1, 2, 3, 3)]
    ours = train(lambda p: kind(p, **options), shapes, dtype=dtype)
    theirs = [torch.tensor(normal(shape, dtype), requires_grad=True) for shape in shapes]
    optimizer = getattr(torch.optim, kind.__name__)(theirs, **options)
    for step in range(5):
        for t, shape in zip(theirs, shapes):
            t.grad = torch.tensor(normal(shape, dtype, seed=step + 1))
        optimizer.step()
        for a, b in zip(ours[step], theirs):
            assert_close(a, b.detach().numpy(), TOLERANCE[np.dtype(dtype)])


@cases
@pytest.mark.parametrize("size", [1, 1000, 100_003])
def test_tuned_is_reference(kind, options, size):
    for dtype in (np.float32, np.float64):
        tuned = train(lambda p: kind(p, **options), [(size,)], 2, dtype)
        with backend.using("reference"):
            plain = train(lambda p: kind(p, **options), [(size,)], 2, dtype)
        assert_close(tuned[-1][0], plain[-1][0], TOLERANCE[np.dtype(dtype)])


@cases
def test_any_number_of_threads(kind, options):
    import numba

    got = []
    for threads in (1, 2):
        numba.set_num_threads(threads)
        got.append(train(lambda p: kind(p, **options), [(100_003,)], 2, np.float32)[-1][0])
    np.testing.assert_array_equal(*got)


def test_defaults_are_torchs():
    if not HAVE_TORCH:
        pytest.skip("torch is the oracle")
    import torch

    for kind in (SGD, Adam, AdamW):
        ours = kind([Parameter(np.zeros(1))]).state_dict()[0]
        theirs = getattr(torch.optim, kind.__name__)([torch.zeros(1, requires_grad=True)]).defaults
        for name in kind([Parameter(np.zeros(1))])._options:
            assert ours[name] == theirs[name], (kind, name)


def test_groups_become_slices_of_the_models_own_vectors():
    model = Sequential(Affine(3, 2), Affine(4, 3), Affine(1, 4))
    before = {name: value.copy() for name, value in model.state_dict().items()}
    weights = [p for name, p in model.named_parameters() if name.endswith("weight")]
    biases = [p for name, p in model.named_parameters() if name.endswith("bias")]
    for p in weights + biases:
        p.grad[...] = normal(p.shape)
    kept = [p.grad.copy() for p in weights]
    optimizer = SGD([{"params": weights, "weight_decay": 0.5}, {"params": biases, "lr": 0.0}], lr=0.1)
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
    for p, grad in zip(weights, kept):
        np.testing.assert_array_equal(p.grad, grad)
    for group in optimizer.param_groups:
        assert np.shares_memory(group["data"], model.data)
        assert np.shares_memory(group["grad"], model.grad)
    optimizer.step()
    for name, p in model.named_parameters():
        step = 0.1 * (p.grad + 0.5 * before[name]) if name.endswith("weight") else 0
        np.testing.assert_allclose(p.data, before[name] - step, rtol=1e-14)


def test_a_sequential_is_not_moved():
    model = Sequential(Affine(3, 2), Affine(4, 3))
    places = [p.data.ctypes.data for p in model.parameters()]
    optimizer = SGD(model.parameters())
    assert places == [p.data.ctypes.data for p in model.parameters()]
    assert len(optimizer.param_groups) == 1


@cases
def test_resuming(kind, options):
    def run(interrupt):
        p = Parameter(normal((20,)))
        optimizer = kind([p], **options)
        for step in range(6):
            if interrupt and step == 3:
                saved, p = optimizer.state_dict(), Parameter(p.data)
                optimizer = kind([p], lr=7.0)
                optimizer.load_state_dict(saved)
            p.grad[...] = normal((20,), seed=step)
            optimizer.step()
        return p.data

    np.testing.assert_array_equal(run(True), run(False))


def test_step_allocates_nothing():
    import tracemalloc

    model = Sequential(Affine(64, 64), Affine(64, 64))
    for optimizer in (SGD(model.parameters(), momentum=0.9), Adam(model.parameters())):
        optimizer.step()
        tracemalloc.start()
        optimizer.step()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 20_000 < model.data.nbytes // 4


def test_grad_norm():
    model = Sequential(Affine(3, 2), Affine(200, 30))
    loose = Affine(5, 2)
    for thing in (model, loose):
        for p in thing.parameters():
            p.grad[...] = normal(p.shape)
        expected = np.sqrt(sum(np.sum(p.grad**2) for p in thing.parameters()))
        np.testing.assert_allclose(grad_norm(thing), expected, rtol=1e-14)
        with backend.using("reference"):
            np.testing.assert_allclose(grad_norm(thing), expected, rtol=1e-13)
        thing.parameters().__next__().grad[0, 0, 0, 0] = np.nan
        assert np.isnan(grad_norm(thing))
    assert grad_norm([]) == 0.0
    assert update.norm(np.full(4, 1e30, np.float32)) == pytest.approx(2e30)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("backend_name", ["reference", "cpu"])
def test_health_tells_the_chunk_that_is_not_finite(dtype, backend_name):
    x, partial = np.full(100_003, np.finfo(dtype).max, dtype), np.empty(4)
    with nbprop.using(backend_name):
        twin = backend.twin("update", x)
        twin.health(x, partial)
        assert partial.tolist() == [0, 0, 0, 0]
        for value in (np.inf, -np.inf, np.nan):
            x[60_000] = value
            twin.health(x, partial)
            assert np.isnan(partial).tolist() == [False, False, True, False]


def test_norm_does_not_depend_on_threads():
    import numba

    x = normal((300_001,), np.float32)
    got = set()
    for threads in (1, 2):
        numba.set_num_threads(threads)
        got.add(update.norm(x))
    assert len(got) == 1


@pytest.mark.parametrize("make, message", [
    (lambda p: SGD([]), "params is empty"),
    (lambda p: SGD([p.data]), "params has a ndarray; expected Parameters"),
    (lambda p: SGD([p, p]), "params has one parameter twice"),
    (lambda p: SGD([p], lr=-1), "lr is -1; expected a number of at least 0"),
    (lambda p: SGD([p], lr=float("nan")), "lr is nan"),
    (lambda p: SGD([{"params": [p], "momentun": 1}]), "momentun"),
    (lambda p: SGD([{"params": [p], "lr": -2}]), "lr is -2"),
    (lambda p: SGD([p], nesterov=True), "nesterov is True with momentum 0.0"),
    (lambda p: Adam([p], betas=(0.9, 1.0)), "betas is"),
    (lambda p: SGD([p]).load_state_dict([]), "state has 0 groups; expected 1"),
    (lambda p: Adam([p]).load_state_dict(SGD([p]).state_dict()), "has the entries"),
    (lambda p: SGD([p, Parameter(np.zeros(3, np.float32))]), "different dtypes|expected one dtype"),
    (lambda p: update.sgd_update(p.data[::2], p.grad[::2], 1), "w is read-only or has gaps"),
    (lambda p: update.sgd_update(p.data, p.grad[1:], 1), "dw has shape"),
    (lambda p: update.norm(p.data[::2]), "x has strides"),
])  # fmt: skip
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make(Parameter(normal((6,))))


def test_zero_grad_and_unknown_argument():
    p = Parameter(normal((6,)))
    p.grad[...] = 1
    SGD([p]).zero_grad()
    assert not p.grad.any()
    with pytest.raises(TypeError, match="amsgrad"):
        Adam([p], amsgrad=True)


def test_public_updates_match_the_optimisers():
    w, dw, m = normal((9,)), normal((9,), seed=1), np.zeros(9)
    p = Parameter(w)
    p.grad[...] = dw
    SGD([p], lr=0.1, momentum=0.9).step()
    update.sgd_momentum_update(w, dw, m, 0.1, 0.9)
    np.testing.assert_array_equal(w, p.data)
    q = Parameter(w)
    q.grad[...] = dw
    Adam([q], lr=0.1).step()
    update.adam_update(w, dw, np.zeros(9), np.zeros(9), 0.1, 0.9, 0.999, 1e-8, 0.0, False, 1)
    np.testing.assert_array_equal(w, q.data)
