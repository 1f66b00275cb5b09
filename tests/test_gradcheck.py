"""The gradient check finds what is wrong, says where, and leaves the model alone."""

import numpy as np
import pytest
from oracle import normal

from nbprop import nn
from nbprop.gradient_check import adjoint_check, adjoint_errors, gradcheck
from nbprop.nn.module import Module, Parameter


class Scale(Module):
    """y = w x + b, one w and b for each feature, and a mistake of one's choice."""

    def __init__(self, features, wrong=None, dtype=np.float32):
        self.weight = Parameter(normal((features,), dtype))
        self.bias = Parameter(normal((features,), dtype, seed=1))
        self.wrong = wrong

    def allocate(self, shape, dtype):
        return None

    def forward(self, x):
        self.x = x
        return self.weight.data * x + self.bias.data

    def backward(self, dy, input_gradient=True):
        self.weight.grad[...] = np.sum(dy * self.x, axis=0)
        self.bias.grad[...] = np.sum(dy, axis=0)
        if self.wrong:
            getattr(self, self.wrong).grad[1] *= 1.01
        dx = dy * self.weight.data
        if self.wrong is None or self.wrong != "":
            return dx
        dx[1, 2] += 0.01
        return dx


def test_accepts_a_right_gradient():
    worst = gradcheck(Scale(3), normal((4, 3)))
    assert 0 <= worst.error < 1e-7
    assert worst.layer == "Scale"


def test_accepts_layers_and_chains():
    x = normal((3, 4))
    for layer in (nn.Tanh(), nn.GELU(), nn.PReLU(), nn.Softmax(dim=1), nn.Sigmoid()):
        assert gradcheck(layer, x, entries=None).error < 1e-7
    model = nn.Sequential(Scale(4), nn.Tanh(), Scale(4), nn.PReLU(4), nn.LogSoftmax(dim=1))
    assert gradcheck(model, x).error < 1e-6


@pytest.mark.parametrize("wrong, message", [
    ("weight", r"Scale: the gradient by 1\.weight at \(1,\) is .*; central differences give"),
    ("bias", r"Scale: the gradient by 1\.bias at \(1,\) is"),
    ("", r"Sequential: the gradient by input at \(1, 2\) is"),
])  # fmt: skip
def test_names_the_worst_entry(wrong, message):
    model = nn.Sequential(Scale(3, "" if wrong == "" else None), Scale(3, wrong or None))
    with pytest.raises(ValueError, match=message):
        gradcheck(model, normal((4, 3)))


def test_a_kink_within_the_step_is_no_error():
    x = normal((4, 3))
    x[1, 2] = 2e-7
    assert gradcheck(nn.ReLU(), x, entries=None).error < 1e-7


def test_finds_nan():
    layer = Scale(3)
    layer.weight.data[0] = np.nan
    with pytest.raises(ValueError, match="nan"):
        gradcheck(layer, normal((4, 3)))


def test_leaves_the_model_alone():
    model = nn.Sequential(Scale(3), nn.PReLU())
    x = normal((4, 3), np.float32)
    model.forward(x)
    model.backward(x)
    before = model.data.copy(), model.grad.copy()
    gradcheck(model, x)
    np.testing.assert_array_equal(model.data, before[0])
    np.testing.assert_array_equal(model.grad, before[1])
    assert {p.dtype for p in model.parameters()} == {np.dtype(np.float32)}
    assert np.shares_memory(model.data, next(model.parameters()).data)


def test_refuses_a_model_that_is_not_a_function():
    class Random(Module):
        def forward(self, x):
            return x * np.random.default_rng().standard_normal()

    with pytest.raises(ValueError, match=r"two outputs for one input.*eval\(\)"):
        gradcheck(Random(), normal((2, 3)))


def test_adjoint():
    a = normal((5, 3))
    assert adjoint_check(lambda x: a @ x, lambda y: a.T @ y, normal((3,)), normal((5,))) < 1e-15
    with pytest.raises(ValueError, match="backward is not forward's adjoint"):
        adjoint_check(lambda x: a @ x, lambda y: 1.01 * a.T @ y, normal((3,)), normal((5,)))
    with pytest.raises(ValueError, match="expected the same shapes back"):
        adjoint_check(lambda x: a @ x, lambda y: y, normal((3,)), normal((5,)))


def test_adjoints_of_the_linear_layers_of_a_model():
    model = nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2), nn.Residual(nn.Conv2d(3, 3, 1)),
        nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(), nn.Linear(12, 3), nn.Softmax(dim=1),
    )  # fmt: skip
    found = list(adjoint_errors(model, normal((2, 2, 8, 8))))
    assert [name for name, _, _ in found] == ["0", "2", "3.inner", "5", "6", "7"]
    assert all(error < 1e-14 for _, _, error in found)


def test_a_wrong_adjoint_is_named():
    model = nn.Sequential(nn.Tanh(), nn.Function(lambda x: 2 * x, lambda x, dy: 2.001 * dy))
    with pytest.raises(ValueError, match=r"1 Function: .*backward is not forward's adjoint"):
        list(adjoint_errors(model, normal((2, 3))))
