"""Activations: slopes against central differences, twin against twin, torch, kinks, users' own, caching."""

import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import (
    TOLERANCE,
    assert_close,
    assert_same_bits,
    dtypes,
    memory_orders,
    needs_torch,
    normal,
    numeric_gradient,
)

from nbprop import backend, nn
from nbprop.nn.activation import activation
from nbprop.ops import activation as op
from nbprop.ops import vecmath

# The layers, with arguments whose kinks no test point meets.
LAYERS = [
    (nn.ReLU, {}),
    (nn.ReLU, {"grad_at_zero": 1.0}),
    (nn.LeakyReLU, {}),
    (nn.LeakyReLU, {"negative_slope": 0.3}),
    (nn.Sigmoid, {}),
    (nn.Tanh, {}),
    (nn.Abs, {}),
    (nn.Power, {"power": 2.0, "scale": 0.5, "shift": 1.0}),
    (nn.Power, {"power": 3.0}),
    (nn.Power, {"power": 0.0}),
    (nn.Hardtanh, {}),
    (nn.Hardtanh, {"min_val": -0.3, "max_val": 2.0}),
    (nn.ELU, {}),
    (nn.ELU, {"alpha": 0.4}),
    (nn.SiLU, {}),
    (nn.GELU, {}),
    (nn.GELU, {"approximate": "tanh"}),
    (nn.Softplus, {}),
    (nn.Softplus, {"beta": 2.0, "threshold": 3.0}),
    (nn.Hardsigmoid, {}),
    (nn.Hardswish, {}),
]
layers = pytest.mark.parametrize("kind, kwargs", LAYERS, ids=lambda v: v.__name__ if callable(v) else str(v))
shapes = st.sampled_from([(7,), (1, 1), (3, 33), (2, 3, 5), (2, 5, 3, 4), (1, 1, 3, 1), (2, 17, 1, 5)])


def run(layer, x, dy):
    """Forward and backward, copied out of the layer's buffers."""
    return layer.forward(x).copy(), layer.backward(dy).copy()


@layers
def test_reference_gradient(kind, kwargs):
    x, dy = 2 * normal((3, 5, 4, 3)), normal((3, 5, 4, 3), seed=1)
    layer = kind(**kwargs)
    with backend.using("reference"):
        _, dx = run(layer, x, dy)
        assert_close(dx, numeric_gradient(layer, x, dy), 1e-7)


@layers
def test_slope_check_accepts_ours(kind, kwargs):
    layer = kind(**kwargs)
    layer.pair.check(*layer.parameter_values)


@given(st.sampled_from(LAYERS), shapes, dtypes)
@settings(max_examples=80)
def test_tuned_is_reference(case, shape, dtype):
    kind, kwargs = case
    x, dy = 2 * normal(shape, dtype), normal(shape, dtype, seed=1)
    layer = kind(**kwargs)
    y, dx = run(layer, x, dy)
    with backend.using("reference"):
        expected = run(layer, x, dy)
    assert_close(y, expected[0], TOLERANCE[np.dtype(dtype)])
    assert_close(dx, expected[1], TOLERANCE[np.dtype(dtype)])


@needs_torch
@layers
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_as_torch(kind, kwargs, dtype):
    import torch

    special = np.array([0.0, 3.0, -3.0, 1.0, -1.0, 1e3, -1e3, 20.0, 21.0, -0.0])
    x = np.concatenate([normal((5000,)) * 3, special]).astype(dtype)
    z = torch.tensor(x, requires_grad=True)
    if kind is nn.Abs:
        expected = z.abs()
    elif kind is nn.Power:
        expected = (kwargs.get("shift", 0) + kwargs.get("scale", 1) * z) ** kwargs["power"]
    else:
        theirs = {k: v for k, v in kwargs.items() if k != "grad_at_zero"}
        expected = getattr(torch.nn, kind.__name__)(**theirs)(z)
    dy = normal(x.shape, dtype, seed=1)
    expected.backward(torch.tensor(dy))
    y, dx = run(kind(**kwargs), x, dy)
    at = slice(None) if "grad_at_zero" not in kwargs else x != 0
    tolerance = 4 * np.finfo(dtype).eps
    np.testing.assert_allclose(y, expected.detach().numpy(), rtol=10 * tolerance, atol=2 * tolerance)
    np.testing.assert_allclose(dx[at], z.grad.numpy()[at], rtol=30 * tolerance, atol=10 * tolerance)


@layers
def test_memory_orders(kind, kwargs):
    x, dy = normal((2, 5, 3, 4)), normal((2, 5, 3, 4), seed=1)
    layer = kind(**kwargs)
    y, dx = run(layer, x, dy)
    for (name, a), (_, b) in zip(memory_orders(x), memory_orders(dy)):
        ours = run(layer, a, b)
        np.testing.assert_array_equal(ours[0], y, err_msg=name)
        np.testing.assert_array_equal(ours[1], dx, err_msg=name)
        np.testing.assert_array_equal(a, x)


@layers
def test_nan_passes(kind, kwargs):
    y = kind(**kwargs).forward(np.array([[1.0, np.nan, 2.0]]))
    expected = [False, kwargs != {"power": 0.0}, False]  # NaN^0 is 1, in C and in torch
    assert np.isnan(y[0]).tolist() == expected


def test_kinks():
    """Slopes at exactly 0, the documented choices."""
    zero = np.zeros((1, 1))
    for layer, slope in ((nn.ReLU(), 0), (nn.ReLU(grad_at_zero=1.0), 1), (nn.ReLU(grad_at_zero=0.5), 0.5),
                         (nn.LeakyReLU(0.1), 0.1), (nn.Abs(), 0), (nn.ELU(), 1)):  # fmt: skip
        layer.forward(zero)
        assert layer.backward(zero + 1) == slope
    hard = nn.Hardtanh()
    hard.forward(np.array([[-1.0, 1.0, 0.5]]))
    np.testing.assert_array_equal(hard.backward(np.ones((1, 3))), [[0, 0, 1]])


def test_seed_000_equations_4_and_5():
    x = np.array([[-2.0, 0.0, 3.0]])
    layer = nn.ReLU(grad_at_zero=1.0)
    np.testing.assert_array_equal(layer.forward(x), [[0, 0, 3]])
    np.testing.assert_array_equal(layer.backward(np.full((1, 3), 7.0)), [[0, 7, 7]])


@layers
@pytest.mark.parametrize("shape", [(0, 5), (0, 3, 2, 2)], ids=str)
def test_empty_batch(kind, kwargs, shape):
    y, dx = run(kind(**kwargs), np.zeros(shape), np.zeros(shape))
    assert y.shape == dx.shape == shape


def test_buffers_are_reused_and_calls_own_their_result():
    layer, x = nn.ReLU(), normal((4, 5))
    y, dx = layer.forward(x), layer.backward(x)
    assert layer.forward(x) is y
    assert layer.backward(x) is dx
    assert layer(x) is not y
    assert layer.backward(x, input_gradient=False) is None


def test_any_number_of_threads():
    assert_same_bits("""
from nbprop import nn
x = np.random.default_rng(0).standard_normal((3, 40, 31, 29)).astype(np.float32)
def run():
    for layer in nn.ReLU(), nn.Tanh(), nn.GELU(), nn.PReLU(40), nn.PReLU():
        yield layer.forward(x)
        yield layer.backward(x)
        for p in layer.parameters():
            yield p.grad
""")


# Learned parameters: PReLU, and a user's with two.


def test_prelu_reference_gradient():
    x, dy = normal((3, 4, 2, 5)), normal((3, 4, 2, 5), seed=1)
    with backend.using("reference"):
        for count in (1, 4):
            layer = nn.PReLU(count, dtype=np.float64)
            _, dx = run(layer, x, dy)
            assert_close(dx, numeric_gradient(layer, x, dy), 1e-7)
            dw = layer.weight.grad.copy()

            def by_weight(w, layer=layer):
                layer.weight.data[...] = w
                return layer(x)

            assert_close(dw, numeric_gradient(by_weight, layer.weight.data.copy(), dy), 1e-7)


@needs_torch
@pytest.mark.parametrize("shape", [(6, 5), (2, 5, 3, 4), (64, 5, 31, 29)], ids=str)
@pytest.mark.parametrize("shared", [False, True])
def test_prelu_as_torch(shape, shared):
    import torch

    count = 1 if shared else 5
    ours = nn.PReLU(count, init=0.3, dtype=np.float64)
    theirs = torch.nn.PReLU(count, 0.3, dtype=torch.float64)
    x, dy = normal(shape), normal(shape, seed=1)
    z = torch.tensor(x, requires_grad=True)
    y = theirs(z)
    y.backward(torch.tensor(dy))
    assert_close(ours.forward(x), y.detach().numpy(), 1e-15)
    assert_close(ours.backward(dy), z.grad.numpy(), 1e-15)
    assert_close(ours.weight.grad, theirs.weight.grad.numpy(), 1e-12)
    assert ours.state_dict().keys() == theirs.state_dict().keys()


@given(st.sampled_from([(1, 1), (3, 33), (2, 5, 3, 4), (2, 17, 41, 25)]), dtypes, st.booleans())
@settings(max_examples=25)
def test_prelu_tuned_is_reference(shape, dtype, shared):
    layer = nn.PReLU(1 if shared else shape[1], dtype=dtype)
    layer.weight.data[...] = normal(layer.weight.shape, dtype, seed=3)
    x, dy = normal(shape, dtype), normal(shape, dtype, seed=1)
    y, dx = run(layer, x, dy)
    dw = layer.weight.grad.copy()
    with backend.using("reference"):
        expected = run(layer, x, dy)
    assert_close(y, expected[0], TOLERANCE[np.dtype(dtype)])
    assert_close(dx, expected[1], TOLERANCE[np.dtype(dtype)])
    assert_close(dw, layer.weight.grad, 10 * TOLERANCE[np.dtype(dtype)])


def test_learned_ops():
    x, dy, theta = normal((3, 4)), normal((3, 4), seed=1), normal((1, 4), seed=2)
    y = op.learned_forward(op.PRELU, x, theta)
    np.testing.assert_array_equal(y, np.where(x > 0, x, theta * x))
    dx = op.learned_backward_input(op.PRELU, x, dy, theta)
    np.testing.assert_array_equal(dx, np.where(x > 0, dy, theta * dy))
    dtheta = op.learned_backward_parameters(op.PRELU, x, dy, theta)
    np.testing.assert_allclose(dtheta, [np.where(x > 0, 0, x * dy).sum(axis=0)], rtol=1e-14)


# Users' own.


def swish(x, beta):
    return x * vecmath.sigmoid(beta * x)


def swish_slope(x, beta):
    s = vecmath.sigmoid(beta * x)
    return s + beta * x * s * (1 - s)


def test_own_activation():
    make = activation(swish, swish_slope, {"beta": 1.0})
    x, dy = normal((4, 6)), normal((4, 6), seed=1)
    y, dx = run(make(), x, dy)
    assert_close(y, x / (1 + np.exp(-x)), 1e-14)
    assert_close(dx, numeric_gradient(make(), x, dy), 1e-7)
    np.testing.assert_allclose(make(beta=2.0)(x), x / (1 + np.exp(-2 * x)), rtol=1e-13)
    with pytest.raises(TypeError, match=r"swish got \['alpha'\]; expected any of \['beta'\]"):
        make(alpha=1)


def test_own_learned_activation():
    make = activation(
        lambda x, a, b: a * x + b * x * x,
        lambda x, a, b: a + 2 * b * x,
        {"a": 1.0, "b": 0.1},
        (lambda x, a, b: x, lambda x, a, b: x * x),
    )
    layer = make(num_parameters=3, dtype=np.float64, b=0.5)
    x, dy = normal((4, 3, 2, 2)), normal((4, 3, 2, 2), seed=1)
    y, dx = run(layer, x, dy)
    assert_close(y, x + 0.5 * x * x, 1e-15)
    assert_close(dx, dy * (1 + x), 1e-15)
    assert_close(layer.a.grad, (dy * x).sum(axis=(0, 2, 3)), 1e-13)
    assert_close(layer.b.grad, (dy * x * x).sum(axis=(0, 2, 3)), 1e-13)
    assert [name for name, _ in layer.named_parameters()] == ["a", "b"]


def test_slope_of_the_output():
    make = activation(lambda x: vecmath.exp(x), lambda y: y, of_output=True)
    x = normal((2, 3))
    y, dx = run(make(), x, np.ones((2, 3)))
    np.testing.assert_array_equal(y, dx)


@pytest.mark.parametrize("make, message", [
    (lambda: activation(lambda x: x * x, lambda x: x), "slope is .* at .*, where central diff"),
    (lambda: activation(lambda x: x * x, lambda x: float("nan")), "slope is nan"),
    (lambda: activation(swish, lambda x, beta: swish_slope(x, 2 * beta), {"beta": 1.0}), "slope is"),
    (lambda: activation(lambda x, a: a * x, lambda x, a: a, {"a": 2.0}, (lambda x, a: x + 1,)),
     r"parameter_slopes\[0\] \(a, at x = .*\) is"),
    (lambda: activation(swish, swish_slope, {"beta": 1.0}, (swish, swish)), "slopes has 2 functions"),
    (lambda: nn.ReLU(inplace=True), "inplace is True; expected False"),
    (lambda: nn.Hardtanh(2.0, 1.0), "min_val is 2.0 and max_val 1.0; expected min_val below max_val"),
    (lambda: nn.ELU(-1.0), "alpha is -1.0; expected at least 0"),
    (lambda: nn.GELU("erf"), 'approximate is .erf.; expected "none" or "tanh"'),
    (lambda: nn.PReLU(0), "num_parameters is 0"),
    (lambda: nn.PReLU(3).forward(np.zeros((2, 4), np.float32)), "x has 4 channels .* expected 3"),
    (lambda: nn.PReLU().forward(np.zeros((2, 4))), "different dtypes"),
    (lambda: nn.PReLU().forward(np.zeros(4, np.float32)), "x has shape"),
    (lambda: nn.ReLU().forward(np.zeros((2, 4), int)), "x has dtype int64; expected float32 or float64"),
    (lambda: op.activation_forward(op.RELU, np.zeros(3), 1.0), "1 parameters came"),
    (lambda: op.activation_backward(op.RELU, np.zeros(3), np.zeros(4)), "dy has shape"),
    (lambda: op.learned_forward(op.RELU, np.zeros((2, 3)), np.zeros((1, 3))), "has no parameter_slopes"),
    (lambda: op.learned_forward(op.PRELU, np.zeros((2, 3)), np.zeros((1, 4))), "theta has shape"),
])  # fmt: skip
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_backward_refuses_another_shape():
    layer = nn.ReLU()
    layer.forward(np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"dy has shape \(3, 2\); expected \(2, 3\)"):
        layer.backward(np.zeros((3, 2)))


def test_public_functions_take_any_array():
    x, dy = normal((2, 5, 3, 4)), normal((2, 5, 3, 4), seed=1)
    y = op.activation_forward(op.TANH, x)
    np.testing.assert_allclose(y, np.tanh(x), rtol=1e-15)
    for (_, a), (_, b) in zip(memory_orders(y), memory_orders(dy)):
        np.testing.assert_allclose(op.activation_backward(op.TANH, a, b), dy * (1 - y * y), rtol=1e-14)
    assert op.activation_forward(op.LEAKY_RELU, np.array([-1.0]), 0.5) == -0.5


def test_the_second_process_compiles_nothing(tmp_path):
    code = """
import numpy as np
from numba.core import event
from nbprop import nn
x = np.ones((64, 8, 32, 32), np.float32)
for layer in nn.ReLU(), nn.LeakyReLU(), nn.PReLU():
    with event.install_recorder("numba:compile") as recorder:
        layer.forward(x)
        layer.backward(x)
    print(recorder.buffer == [])
"""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    root = pathlib.Path(__file__).parents[1]
    shutil.copytree(root / "nbprop", tmp_path / "nbprop")  # sources that nobody edits meanwhile
    options = {"cwd": tmp_path, "env": environment, "capture_output": True, "text": True, "timeout": 120}
    runs = [subprocess.run([sys.executable, "-c", code], **options) for _ in range(2)]
    assert all(r.returncode == 0 for r in runs), runs
    assert "False" in runs[0].stdout
    assert "False" not in runs[1].stdout, runs[1].stdout


def test_what_users_write_may_allocate():
    """Kernels count no references, but those that call a user's function do."""
    step = activation(lambda x: np.where(x > 0, x, 0.1 * x), lambda x: np.array([0.1, 1.0])[int(x > 0)])()
    x = normal((3, 5), np.float64)
    np.testing.assert_allclose(step(x), np.where(x > 0, x, 0.1 * x))
    np.testing.assert_allclose(step.backward(np.ones((3, 5))), np.where(x > 0, 1, 0.1))
