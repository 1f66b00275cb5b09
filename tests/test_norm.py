"""Norms: the derivation against central differences, the fast twins against it, and torch."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import (
    TOLERANCE,
    assert_close,
    assert_same_bits,
    both,
    dtypes,
    memory_orders,
    needs_torch,
    normal,
    numeric_gradient,
    rng,
)

import nbprop
from nbprop import backend, nn
from nbprop.ops.layer_norm import layer_norm_backward, layer_norm_forward
from nbprop.ops.norm import norm_backward, norm_forward

DIVISORS = ["sqrt(v + eps)", "sqrt(v) + eps", "1"]


@st.composite
def norms(draw):
    """A shape, and groups that divide its channels and hold enough values for a variance to be sure of."""
    groups, width = draw(st.sampled_from([(1, 1), (1, 3), (3, 1), (7, 1), (2, 4), (33, 1), (5, 7), (1, 300)]))
    shape = (draw(st.integers(1, 4)), groups * width, draw(st.integers(3, 17)), draw(st.integers(3, 23)))
    return shape, {"groups": groups, "over_batch": draw(st.booleans()),
                   "divisor": draw(st.sampled_from(DIVISORS))}  # fmt: skip


def operands(shape, dtype):
    """x away from zero, and a weight and a bias."""
    C = shape[1]
    return 3 + 2 * normal(shape, dtype), 1 + normal((C,), dtype, 1) / 2, normal((C,), dtype, 2)


@pytest.mark.parametrize("divisor", DIVISORS)
@pytest.mark.parametrize("groups, over_batch", [(4, True), (4, False), (2, False), (1, False)])
def test_reference_gradient(groups, over_batch, divisor):
    x, weight, bias = operands((2, 4, 3, 2), np.float64)
    kwargs = {"groups": groups, "over_batch": over_batch, "divisor": divisor}
    dy = normal(x.shape, seed=3)
    with backend.using("reference"):
        _, mean, variance = norm_forward(x, weight, bias, **kwargs)
        found = norm_backward(dy, x, mean, variance, weight, divisor=divisor)
        for i, name in enumerate(("x", "weight", "bias")):
            def f(v, name=name):
                return norm_forward(**{"x": x, "weight": weight, "bias": bias, name: v}, **kwargs)[0]

            numeric = numeric_gradient(f, (x, weight, bias)[i], dy)
            # Against the size of dy: over the whole batch much of dx cancels.
            assert_close(found[i] + 1, numeric + 1, 1e-7)
            assert_close(found[i], numeric, 1e-6)


def test_reference_gradient_with_given_statistics():
    x, weight, bias = operands((2, 3, 3, 2), np.float64)
    given_ = {"mean": normal((1, 3), seed=5), "variance": 1 + normal((1, 3), seed=6) ** 2}
    dy = normal(x.shape, seed=3)

    def f(x, weight, bias):
        return norm_forward(x, weight, bias, **given_)[0]

    for name in ("reference", "cpu"):
        with backend.using(name):
            dx, dw, db = norm_backward(dy, x, weight=weight, fixed=True, **given_)
            assert_close(dx, numeric_gradient(lambda v: f(v, weight, bias), x, dy), 1e-7)
            assert_close(dw, numeric_gradient(lambda v: f(x, v, bias), weight, dy), 1e-7)
            assert_close(db, numeric_gradient(lambda v: f(x, weight, v), bias, dy), 1e-7)


@given(norms(), dtypes)
@settings(max_examples=40)
def test_cpu_as_reference(case, dtype):
    shape, kwargs = case
    x, weight, bias = operands(shape, dtype)
    (y, *statistics), (expected, *exact) = both(norm_forward, x, weight, bias, **kwargs)
    tolerance = TOLERANCE[np.dtype(dtype)]
    assert_close(y, expected, tolerance)
    for mine, theirs in zip(statistics, exact):
        assert_close(mine, theirs, tolerance)
    dy = normal(shape, dtype, 7)
    # dw and db are sums of terms about 1 in size: measured by what such a sum is, not by what cancellation leaves.
    size = math.sqrt(dy.size / max(shape[1], 1))
    (dx, *sums), (exact_dx, *exact_sums) = both(norm_backward, dy, x, *exact, weight, divisor=kwargs["divisor"])
    assert_close(dx, exact_dx, tolerance)
    assert dx.dtype == dtype
    for mine, theirs in zip(sums, exact_sums):
        np.testing.assert_allclose(mine, theirs, rtol=tolerance, atol=tolerance * size)
        assert mine.dtype == dtype


@pytest.mark.parametrize("shape, over_batch", [
    ((5, 33, 31, 29), True), ((3, 3, 150, 151), True), ((3, 3, 150, 151), False), ((5, 64, 23, 29), False),
    ((70, 17, 9, 8), False), ((2, 1, 150, 151), False),
])  # fmt: skip
def test_cpu_as_reference_on_many_threads(shape, over_batch):
    x, weight, bias = operands(shape, np.float32)
    (y, *_), (expected, *exact) = both(norm_forward, x, weight, bias, over_batch=over_batch)
    assert_close(y, expected, 1e-6)
    for mine, theirs in zip(*both(norm_backward, normal(shape, np.float32, 7), x, *exact, weight)):
        assert_close(mine, theirs, 2e-6)


@pytest.mark.parametrize("over_batch", [True, False])
def test_large_means_cost_no_digits(over_batch):
    """Mean 10,000 times the deviation: the textbook E(x^2) - E(x)^2 would have no digit left in float32."""
    x = (10_000 + normal((6, 5, 60, 61), np.float32)).astype(np.float32)
    x[:2] -= 5_000  # a mean that drifts
    y, mean, variance = norm_forward(x, over_batch=over_batch)
    exact = np.asarray(x, np.float64)
    axes = (0, 2, 3) if over_batch else (2, 3)
    assert_close(mean, exact.mean(axes).reshape(mean.shape), 1e-9)
    assert_close(variance, exact.var(axes).reshape(mean.shape), 1e-5)
    exact = (exact - exact.mean(axes, keepdims=True)) / np.sqrt(exact.var(axes, keepdims=True) + 1e-5)
    assert_close(y, exact, 1e-5)


def test_equal_values():
    """Caffe's divisor at v = 0, where the square root has no slope: only the mean has a gradient."""
    x, dy = np.full((1, 2, 50, 60), 0.1, np.float32), normal((1, 2, 50, 60), np.float32)
    for name in ("cpu", "reference"):
        with backend.using(name):
            y, mean, variance = norm_forward(x, divisor="sqrt(v) + eps", eps=1e-3)
            assert np.abs(y).max() < 1e-4 and (variance >= 0).all()
            dx, _, _ = norm_backward(dy, x, mean, np.zeros((1, 2)), divisor="sqrt(v) + eps", eps=1e-3)
            assert_close(dx, (dy - dy.mean((2, 3), keepdims=True)) / 1e-3, 1e-5)
            assert np.isfinite(norm_forward(x, eps=1e-5)[0]).all()


def test_nan_stays_in_its_group():
    x = normal((2, 3, 40, 30), np.float32)
    x[1, 2, 3, 4] = np.nan
    y, _, _ = norm_forward(x)
    assert np.isnan(y[1, 2]).all() and np.isfinite(y[0]).all() and np.isfinite(y[1, :2]).all()


def layers(dtype=np.float32):
    """Each layer with a shape that it takes, and what torch calls it with."""
    yield nn.BatchNorm2d(6, dtype=dtype), (3, 6, 5, 7), "BatchNorm2d", (6,), {}
    args = (6, 1e-3, None, False)
    yield nn.BatchNorm2d(*args, dtype=dtype), (3, 6, 5, 7), "BatchNorm2d", args, {}
    kwargs = {"track_running_stats": False}
    yield nn.BatchNorm2d(6, dtype=dtype, **kwargs), (3, 6, 5, 7), "BatchNorm2d", (6,), kwargs
    yield nn.InstanceNorm2d(6, dtype=dtype), (3, 6, 5, 7), "InstanceNorm2d", (6,), {}
    args = (6, 1e-4, 0.3, True, True)
    yield nn.InstanceNorm2d(*args, dtype=dtype), (3, 6, 5, 7), "InstanceNorm2d", args, {}
    yield nn.GroupNorm(2, 6, dtype=dtype), (3, 6, 5, 7), "GroupNorm", (2, 6), {}
    yield nn.GroupNorm(2, 64, 1e-3, False, dtype=dtype), (3, 64), "GroupNorm", (2, 64, 1e-3, False), {}
    for shape, normalized in [((9, 40), 40), ((3, 6, 5, 7), (6, 5, 7)), ((3, 6, 5, 7), (5, 7)),
                              ((3, 6, 5, 7), [7]), ((4, 6, 9), (6, 9)), ((4, 6, 9), (4, 6, 9))]:  # fmt: skip
        yield nn.LayerNorm(normalized, dtype=dtype), shape, "LayerNorm", (normalized,), {}
    yield nn.LayerNorm(40, 1e-3, False), (9, 40), "LayerNorm", (40, 1e-3, False), {}
    yield nn.LayerNorm(40, bias=False, dtype=dtype), (9, 40), "LayerNorm", (40,), {"bias": False}


def names():
    return [f"{type(layer).__name__}-{shape}-{args}" for layer, shape, _, args, _ in layers()]


def case(i, dtype):
    layer, *rest = list(layers(dtype))[i]
    for j, p in enumerate(layer.parameters()):
        p.data[...] += normal(p.shape, dtype, j) / 3
    return layer, *rest


@needs_torch
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("i", range(len(names())), ids=names())
def test_layers_as_torch(i, dtype):
    import torch

    layer, shape, name, args, kwargs = case(i, dtype)
    theirs = getattr(torch.nn, name)(*args, **kwargs).double()
    state = {key: torch.from_numpy(np.array(value)) for key, value in layer.state_dict().items()}
    theirs.load_state_dict(state)
    tolerance = 3e-6 if dtype == np.float32 else 1e-12
    for step in range(4):
        layer.train(step < 3)
        theirs.train(step < 3)
        x, dy = 2 + normal(shape, dtype, step), normal(shape, dtype, 10 + step)
        t = torch.from_numpy(np.array(x, np.float64, order="C")).requires_grad_(True)
        theirs.zero_grad()
        expected = theirs(t)
        expected.backward(torch.from_numpy(np.array(dy, np.float64, order="C")))
        assert_close(layer(x), expected.detach().numpy(), tolerance)
        assert_close(layer.backward(dy), t.grad.numpy(), tolerance)
        gradients = dict(theirs.named_parameters())
        for key, p in layer.named_parameters():
            assert_close(p.grad, gradients[key].grad.numpy(), tolerance)
        found = layer.state_dict()
        assert list(found) == list(theirs.state_dict())
        for key, value in theirs.state_dict().items():
            assert_close(found[key], value.numpy(), tolerance)


def test_state_travels_and_evaluation_uses_it():
    x = normal((4, 3, 5, 6), np.float32)
    layer, other = nn.Sequential(nn.BatchNorm2d(3)), nn.Sequential(nn.BatchNorm2d(3))
    layer(x), layer(2 * x)
    assert layer.state_dict()["0.num_batches_tracked"] == 2
    other.load_state_dict(layer.state_dict())
    np.testing.assert_array_equal(other.eval()(x), layer.eval()(x))
    assert not np.array_equal(layer(x), layer.train()(x))
    before = layer.eval().state_dict()
    layer(x)
    for key, value in layer.state_dict().items():
        np.testing.assert_array_equal(value, before[key])
    assert nn.BatchNorm2d(3, affine=False, track_running_stats=False).state_dict() == {}


@pytest.mark.parametrize("i", range(len(names())), ids=names())
def test_layer_gradients(i):
    layer, shape, *_ = case(i, np.float32)
    nbprop.gradcheck(layer, normal(shape), entries=30)
    nbprop.gradcheck(layer.eval(), normal(shape), entries=30)


@pytest.mark.parametrize("across", [False, True])
@pytest.mark.parametrize("variance", [False, True])
def test_mvn(across, variance):
    x, dy = 3 + normal((2, 3, 5, 7)), normal((2, 3, 5, 7), seed=1)
    layer = nn.MVN(variance, across, 1e-2)
    axes = (1, 2, 3) if across else (2, 3)
    s = x.std(axes, keepdims=True) + 1e-2 if variance else 1
    assert_close(layer(x), (x - x.mean(axes, keepdims=True)) / s, 1e-12)
    assert_close(layer.backward(dy), numeric_gradient(layer, x, dy), 1e-7)


@given(st.integers(1, 70), st.sampled_from([1, 2, 7, 16, 33, 300, 1030]), dtypes)
@settings(max_examples=40)
def test_layer_norm_cpu_as_reference(rows, features, dtype):
    x, weight, bias = operands((rows, features), dtype)
    (y, *_), (expected, mean, rstd) = both(layer_norm_forward, x, features, weight, bias)
    # Two values, close together, are a variance of few digits.
    tolerance = TOLERANCE[np.dtype(dtype)] * (1 if features > 6 else 1e4)
    assert_close(y, expected, tolerance)
    dy = normal(x.shape, dtype, 3)
    dx, dw, db = layer_norm_backward(dy, x, features, mean, rstd, weight)
    with backend.using("reference"):
        exact = layer_norm_backward(*(np.asarray(a, np.float64) for a in (dy, x)), features, mean, rstd,
                                    weight.astype(np.float64))  # fmt: skip
    assert np.abs(dx - exact[0]).max() <= TOLERANCE[np.dtype(dtype)] * 10 * np.abs(rstd).max()
    assert_close(dw + rows, exact[1] + rows, tolerance)
    assert_close(db + rows, exact[2] + rows, tolerance)


@pytest.mark.parametrize("shape, axes", [((900, 70), 1), ((3, 40, 31, 29), 3), ((7, 5000), 1)])
def test_layer_norm_cpu_as_reference_on_many_threads(shape, axes):
    x, dy = 3 + normal(shape, np.float32), normal(shape, np.float32, 1)
    weight, bias = normal(shape[-axes:], np.float32, 2), normal(shape[-axes:], np.float32, 3)
    (y, *_), (expected, *exact) = both(layer_norm_forward, x, shape[-axes:], weight, bias)
    assert_close(y, expected, 1e-6)
    for mine, theirs in zip(*both(layer_norm_backward, dy, x, shape[-axes:], *exact, weight)):
        assert_close(mine, theirs, 2e-6)


def test_memory_orders():
    x, weight, bias = operands((2, 4, 7, 6), np.float32)
    dy = normal(x.shape, np.float32, 1)
    expected, mean, variance = norm_forward(x, weight, bias, 2)
    gradients = norm_backward(dy, x, mean, variance, weight)
    rows, *statistics = layer_norm_forward(x, (4, 7, 6))
    row_gradients = layer_norm_backward(dy, x, (4, 7, 6), *statistics)
    for (name, v), (_, d) in zip(memory_orders(x), memory_orders(dy)):
        before = v.copy()
        np.testing.assert_array_equal(norm_forward(v, weight, bias, 2)[0], expected, err_msg=name)
        np.testing.assert_array_equal(layer_norm_forward(v, (4, 7, 6))[0], rows, err_msg=name)
        for mine, theirs in zip(norm_backward(d, v, mean, variance, weight), gradients):
            np.testing.assert_array_equal(mine, theirs, err_msg=name)
        for mine, theirs in zip(layer_norm_backward(d, v, (4, 7, 6), *statistics), row_gradients):
            np.testing.assert_array_equal(mine, theirs, err_msg=name)
        np.testing.assert_array_equal(v, before, err_msg=name)


def test_same_bits_on_any_number_of_threads():
    assert_same_bits("""
from nbprop.ops.norm import norm_backward, norm_forward
from nbprop.ops.layer_norm import layer_norm_backward, layer_norm_forward
def run():
    rng = np.random.default_rng(0)
    for shape, groups, over_batch in [((5, 33, 40, 41), 33, True), ((3, 12, 40, 41), 4, False),
                                      ((1, 3, 200, 101), 3, True)]:
        x, dy = rng.standard_normal((2, *shape), np.float32)
        y, mean, variance = norm_forward(x, groups=groups, over_batch=over_batch)
        yield from (y, mean, variance, *norm_backward(dy, x, mean, variance))
    for shape, last in [((500, 90), 90), ((5, 33, 20, 19), (33, 20, 19))]:
        x, dy = rng.standard_normal((2, *shape), np.float32)
        y, mean, rstd = layer_norm_forward(x, last)
        yield from (y, mean, rstd, *layer_norm_backward(dy, x, last, mean, rstd))
""")


@pytest.mark.parametrize("i", range(len(names())), ids=names())
def test_empty_batch(i):
    layer, shape, *_ = case(i, np.float32)
    if isinstance(layer, nn.LayerNorm) and len(layer.normalized_shape) == len(shape):
        return  # the batch is part of what is normalised
    for p in layer.parameters():
        p.grad[...] = 1
    before = layer.state_dict()
    empty = np.zeros((0, *shape[1:]), np.float32)
    assert layer(empty).shape == layer.backward(empty).shape == empty.shape
    assert all((p.grad == 0).all() for p in layer.parameters())
    for key, value in layer.state_dict().items():
        np.testing.assert_array_equal(value, before[key])


@pytest.mark.parametrize("i", range(len(names())), ids=names())
def test_a_layer_keeps_its_buffers(i):
    layer, shape, *_ = case(i, np.float32)
    x, dy = normal(shape, np.float32), normal(shape, np.float32, 1)
    mine, y = layer(x), layer.forward(x)
    kept = mine.copy()
    dx = layer.backward(dy)
    assert layer.forward(-x) is y and layer.backward(dy) is dx
    assert layer.backward(dy, input_gradient=False) is None
    np.testing.assert_array_equal(mine, kept)


def test_bad_input():
    x = np.zeros((2, 6, 1, 1), np.float32)
    for layer in (nn.InstanceNorm2d(6), nn.GroupNorm(6, 6), nn.MVN()):
        with pytest.raises(ValueError, match=r"x has shape \(2, 6, 1, 1\), one value per group"):
            layer(x)
    with pytest.raises(ValueError, match=r"x has shape \(1, 6, 1, 1\), one value per group"):
        nn.BatchNorm2d(6)(x[:1])
    assert nn.BatchNorm2d(6).eval()(x[:1]).shape == (1, 6, 1, 1)
    with pytest.raises(ValueError, match=r"x has 6 channels \(shape \(2, 6, 1, 1\)\); expected 5"):
        nn.BatchNorm2d(5)(x)
    with pytest.raises(ValueError, match="num_groups is 4; expected a divisor of num_channels 6"):
        nn.GroupNorm(4, 6)
    with pytest.raises(ValueError, match="groups is 4 and x has 6 channels"):
        norm_forward(np.zeros((2, 6, 3, 3)), groups=4)
    with pytest.raises(ValueError, match="eps is -1; expected a number of at least 0"):
        nn.BatchNorm2d(6, eps=-1)
    with pytest.raises(ValueError, match=r"momentum is 2; expected a probability from 0 to 1"):
        nn.BatchNorm2d(6, momentum=2)
    with pytest.raises(ValueError, match="momentum is None"):
        nn.InstanceNorm2d(6, momentum=None)
    with pytest.raises(ValueError, match="divisor is 'v'; expected one of"):
        norm_forward(np.zeros((2, 6, 3, 3)), divisor="v")
    with pytest.raises(ValueError, match="variance is None; expected mean and variance together"):
        norm_forward(np.zeros((2, 6, 3, 3)), mean=np.zeros((1, 6)))
    with pytest.raises(ValueError, match=r"mean has shape \(2, 4\); expected \(N, G\) or \(1, G\)"):
        norm_backward(np.zeros((2, 6, 3, 3)), np.zeros((2, 6, 3, 3)), np.zeros((2, 4)), np.zeros((2, 4)))
    with pytest.raises(ValueError, match="x has dtype float64; expected float32"):
        nn.BatchNorm2d(6)(np.zeros((2, 6, 3, 3)))
    with pytest.raises(ValueError, match=r"expected its last 2 axes to be \(3, 4\), the normalized_shape"):
        nn.LayerNorm((3, 4))(np.zeros((2, 3, 5), np.float32))
    with pytest.raises(ValueError, match=r"normalized_shape is \(\); expected the sizes"):
        nn.LayerNorm(())
    with pytest.raises(TypeError, match="device"):
        nn.BatchNorm2d(6, device="cuda")
    layer = nn.GroupNorm(2, 6)
    layer(np.zeros((2, 6, 3, 3), np.float32))
    with pytest.raises(ValueError, match=r"dy has shape \(2, 6\); expected \(2, 6, 3, 3\)"):
        layer.backward(np.zeros((2, 6), np.float32))


def test_groups_of_a_batch_of_rows():
    """(N, C) is (N, C, 1, 1)."""
    x = rng(0).standard_normal((5, 12)).astype(np.float32)
    layer = nn.GroupNorm(3, 12)
    np.testing.assert_array_equal(layer(x), layer(x[:, :, None, None])[:, :, 0, 0])
