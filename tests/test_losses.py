"""Element-wise losses: slopes against central differences, twins against each other, torch, bad input."""

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
from nbprop.ops import pointwise_loss as op

LOSSES = [
    (nn.MSELoss, {}),
    (nn.MSELoss, {"reduction": "sum"}),
    (nn.MSELoss, {"reduction": "none"}),
    (nn.EuclideanLoss, {}),
    (nn.L1Loss, {}),
    (nn.L1Loss, {"reduction": "none"}),
    (nn.HuberLoss, {}),
    (nn.HuberLoss, {"delta": 0.3, "reduction": "sum"}),
    (nn.HuberLoss, {"delta": 0.3, "reduction": "none"}),
    (nn.BCEWithLogitsLoss, {}),
    (nn.BCEWithLogitsLoss, {"reduction": "none"}),
]
losses = pytest.mark.parametrize("kind, kwargs", LOSSES, ids=lambda v: v.__name__ if callable(v) else str(v))
shapes = st.sampled_from([(7,), (1, 1), (3, 33), (2, 3, 5), (2, 5, 3, 4), (3, 17, 41, 29)])


def case(shape, dtype=np.float64):
    y, target = normal(shape, dtype), normal(shape, dtype, seed=1)
    return 2 * y, (target > 0) + target / 8


@losses
def test_reference_gradient(kind, kwargs):
    y, target = case((3, 4, 2, 5))
    loss = kind(**kwargs)
    dy = normal(y.shape, seed=2) if kwargs.get("reduction") == "none" else 1.7
    with backend.using("reference"):
        loss.forward(y, target)
        gradient = loss.backward(dy).copy()
        assert_close(gradient, numeric_gradient(lambda v: loss(v, target), y, dy), 1e-7)


@given(st.sampled_from(LOSSES), shapes, dtypes)
@settings(max_examples=60)
def test_tuned_is_reference(pick, shape, dtype):
    kind, kwargs = pick
    y, target = case(shape, dtype)
    loss = kind(**kwargs)
    value, gradient = loss(y, target), loss.backward().copy()
    with backend.using("reference"):
        assert_close(value, loss(y, target), 4 * TOLERANCE[np.dtype(dtype)])
        assert_close(gradient, loss.backward(), TOLERANCE[np.dtype(dtype)])


@needs_torch
@losses
def test_as_torch(kind, kwargs):
    import torch

    y, target = case((6, 5, 3, 2))
    y[0, 0, 0] = target[0, 0, 0]
    z = torch.tensor(y, requires_grad=True)
    if kind is nn.EuclideanLoss:
        expected = ((z - torch.tensor(target)) ** 2).sum() / 12
    else:
        expected = getattr(torch.nn, kind.__name__)(**kwargs)(z, torch.tensor(target))
    dy = normal(tuple(expected.shape), seed=4) if expected.ndim else np.float64(0.3)
    expected.backward(torch.tensor(dy))
    loss = kind(**kwargs)
    assert_close(loss(y, target), expected.detach().numpy(), 1e-14)
    assert_close(loss.backward(dy), z.grad.numpy(), 1e-14)


@losses
def test_memory_orders(kind, kwargs):
    y, target = case((2, 5, 3, 4))
    loss = kind(**kwargs)
    value, gradient = loss(y, target), loss.backward().copy()
    for (name, a), (_, b) in zip(memory_orders(y), memory_orders(target)):
        np.testing.assert_array_equal(loss(a, b), value, err_msg=name)
        np.testing.assert_array_equal(loss.backward(), gradient, err_msg=name)


@losses
def test_empty_and_nan(kind, kwargs):
    loss = kind(**kwargs)
    value = loss(np.zeros((0, 3)), np.zeros((0, 3)))
    if kwargs.get("reduction") == "none":
        assert value.shape == (0, 3)
    else:
        assert value == 0 if kwargs.get("reduction") == "sum" else np.isnan(value)
    assert loss.backward().shape == (0, 3)
    y, target = case((2, 3))
    y[1, 1] = np.nan
    assert np.isnan(loss(y, target)).any()
    assert np.isnan(loss.backward()[1, 1])


def test_extreme_logits():
    y, target = np.array([[800.0, -800.0, 800.0, -800.0]]), np.array([[1.0, 0.0, 0.0, 1.0]])
    loss = nn.BCEWithLogitsLoss(reduction="none")
    np.testing.assert_array_equal(loss(y, target), [[0, 0, 800, 800]])
    np.testing.assert_array_equal(loss.backward(), [[0, 0, 1, -1]])


def test_public_functions():
    y, target = case((4, 3))
    assert op.pointwise_loss_forward(op.SQUARED, y, target) == nn.MSELoss()(y, target)
    assert op.pointwise_loss_forward(op.HUBER, y, target, 0.5) == nn.HuberLoss(delta=0.5)(y, target)
    gradient = op.pointwise_loss_backward(op.HALF_SQUARED, y, target, reduction="batchmean")
    np.testing.assert_allclose(gradient, (y - target) / 4, rtol=1e-15)


def test_any_number_of_threads():
    assert_same_bits("""
from nbprop import nn
rng = np.random.default_rng(0)
y, t = rng.standard_normal((2, 401, 333)).astype(np.float32)
def run():
    for loss in nn.MSELoss(), nn.BCEWithLogitsLoss(), nn.L1Loss(reduction="none"):
        yield np.float64(loss(y, t))
        yield loss.backward()
""")


Z = np.zeros((2, 3))


@pytest.mark.parametrize("make, message", [
    (lambda: nn.MSELoss(reduction="avg"), "reduction is .avg.; expected one of mean, sum, none"),
    (lambda: nn.MSELoss()(Z, Z[:1]), r"target has shape \(1, 3\); expected \(2, 3\)"),
    (lambda: nn.MSELoss()(Z, Z.astype(np.float32)), "y and target have different dtypes"),
    (lambda: nn.MSELoss()(Z, Z.astype(int)), "target has dtype int64"),
    (lambda: nn.HuberLoss(delta=0), "delta is 0; expected a number above 0"),
    (lambda: op.pointwise_loss_forward(op.SQUARED, Z, Z, reduction="max"), "reduction is .max."),
])  # fmt: skip
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_gradient_by_the_loss():
    loss = nn.MSELoss()
    loss.forward(Z, Z + 1)
    with pytest.raises(ValueError, match="dy has shape"):
        loss.backward(np.ones((2, 3)))
