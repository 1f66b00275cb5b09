"""The networks of seeds 002 and 004 written out literally in NumPy, against the layers; own functions."""

from itertools import pairwise

import numpy as np
import pytest
from oracle import normal

import nbprop
from nbprop import nn, optim

F64 = {"dtype": np.float64}


# Seed 002, algorithms 6.3 and 6.4


def algorithm_6_3(W, b, x, y, f, loss, lam):
    """Return (J, the a's, the h's); Omega(theta) = 1/2 sum of the squares of all weights and biases."""
    a, h = [None], [x]
    for k in range(1, len(W)):
        a.append(b[k] + W[k] @ h[k - 1])
        h.append(f(a[k]))
    omega = 0.5 * sum(np.sum(theta**2) for theta in W[1:] + b[1:])
    return loss(h[-1], y) + lam * omega, a, h


def algorithm_6_4(W, b, y, a, h, f_slope, loss_slope, lam):
    """Return (dW, db) for every layer, regularised weights and biases."""
    dW, db = [None] * len(W), [None] * len(W)
    g = loss_slope(h[-1], y)
    for k in range(len(W) - 1, 0, -1):
        g = g * f_slope(a[k])
        db[k] = g + lam * b[k]
        dW[k] = np.outer(g, h[k - 1]) + lam * W[k]
        g = W[k].T @ g
    return dW, db


SIZES, LAMBDA = (5, 7, 4, 3), 0.3


def literal(model, x, y):
    """J and its gradients for one example by the algorithms, with the model's weights."""
    linear = [layer for layer in model if isinstance(layer, nn.Linear)]
    W = [None] + [layer.weight.data for layer in linear]
    b = [None] + [layer.bias.data for layer in linear]
    J, a, h = algorithm_6_3(W, b, x, y, np.tanh, lambda p, t: 0.5 * np.sum((p - t) ** 2), LAMBDA)
    return J, *algorithm_6_4(W, b, y, a, h, lambda v: 1 - np.tanh(v) ** 2, lambda p, t: p - t, LAMBDA)


def mlp():
    nbprop.manual_seed(2)
    pairs = [(nn.Linear(k, o, **F64), nn.Tanh()) for k, o in pairwise(SIZES)]
    return nn.Sequential(*(layer for pair in pairs for layer in pair))


def test_layers_and_weight_decay_are_algorithm_6_4():
    """A step of gradient descent with weight decay on everything moves by what the algorithm computes."""
    model, rate = mlp(), 0.125
    x, y = normal((SIZES[0],)), normal((SIZES[-1],))
    _, dW, db = literal(model, x, y)
    before = model.state_dict()
    optimizer, loss = optim.SGD(model.parameters(), rate, weight_decay=LAMBDA), nn.EuclideanLoss()
    loss.forward(model.forward(x[None]), y[None])
    model.backward(loss.backward(), input_gradient=False)
    optimizer.step()
    after = model.state_dict()
    for k in range(1, len(SIZES)):
        for name, expected in (("weight", dW[k]), ("bias", db[k])):
            moved = (before[f"{2 * k - 2}.{name}"] - after[f"{2 * k - 2}.{name}"]) / rate
            np.testing.assert_allclose(moved, expected, rtol=1e-12, atol=1e-13)


def test_algorithm_6_4_is_the_derivative_of_6_3():
    model = mlp()
    x, y = normal((SIZES[0],)), normal((SIZES[-1],))
    _, dW, db = literal(model, x, y)
    gradients = [g for pair in zip(dW[1:], db[1:]) for g in pair]
    for p, gradient in zip(model.parameters(), gradients):
        for index in np.ndindex(*p.shape):
            kept = p.data[index]
            values = []
            for h in (1e-6, -1e-6):
                p.data[index] = kept + h
                values.append(literal(model, x, y)[0])
            p.data[index] = kept
            assert (values[0] - values[1]) / 2e-6 == pytest.approx(gradient[index], abs=1e-8)


def test_a_minibatch_is_the_mean_of_its_examples():
    model = mlp()
    x, y = normal((6, SIZES[0])), normal((6, SIZES[-1]))
    each = [literal(model, *example)[1] for example in zip(x, y)]
    loss = nn.EuclideanLoss()  # 1/(2N) sum
    loss.forward(model.forward(x), y)
    model.backward(loss.backward())
    for k in range(1, len(SIZES)):
        expected = np.mean([dW[k] for dW in each], axis=0)
        decay = LAMBDA * model[2 * k - 2].weight.data
        np.testing.assert_allclose(model[2 * k - 2].weight.grad + decay, expected, rtol=1e-12, atol=1e-13)


# Seed 004


def seed_004():
    """Two layers, softmax cross entropy, 1/2 lambda W^2 on weights alone; every gradient by its formula."""
    nbprop.manual_seed(4)
    model = nn.Sequential(nn.Linear(6, 8, **F64), nn.ReLU(), nn.Linear(8, 4, **F64))
    x, labels = normal((5, 6)), np.array([0, 3, 1, 3, 2])
    W, c = model[0].weight.data.T, model[0].bias.data  # the document's W maps rows: (in, out)
    w, b = model[2].weight.data.T, model[2].bias.data
    u = x @ W + c
    h = np.maximum(0, u)
    z = h @ w + b
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    data_loss = np.mean(-np.log(p[np.arange(5), labels]))
    dz = (p - (np.arange(4) == labels[:, None])) / len(x)  # dL_i/dz_k = p_k - 1(y_i = k)
    dh = dz @ w.T
    du = (u > 0) * dh  # the Jacobian of ReLU is diagonal: a product by element
    loss_value = data_loss + 0.5 * LAMBDA * (np.sum(W**2) + np.sum(w**2))
    gradients = {"2.weight": (h.T @ dz + LAMBDA * w).T, "2.bias": dz.sum(axis=0),
                 "0.weight": (x.T @ du + LAMBDA * W).T, "0.bias": du.sum(axis=0)}  # fmt: skip
    return model, x, labels, loss_value, gradients, (dz, dh, du)


def test_each_gradient_of_seed_004():
    model, x, labels, loss_value, gradients, (dz, dh, du) = seed_004()
    loss = nn.CrossEntropyLoss()
    value = loss.forward(model.forward(x), labels)
    penalty = 0.5 * LAMBDA * sum(np.sum(model[i].weight.data ** 2) for i in (0, 2))
    assert value + penalty == pytest.approx(loss_value, rel=1e-13)
    np.testing.assert_allclose(loss.backward(), dz, rtol=1e-12, atol=1e-15)
    rate, before = 0.5, model.state_dict()
    groups = [{"params": [layer.weight for layer in (model[0], model[2])], "weight_decay": LAMBDA},
              {"params": [layer.bias for layer in (model[0], model[2])]}]  # fmt: skip
    optimizer = optim.SGD(groups, rate)
    loss.forward(model.forward(x), labels)
    np.testing.assert_allclose(model[2].backward(loss.backward()), dh, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(model[1].backward(dh), du, rtol=1e-12, atol=1e-14)
    model.backward(loss.backward())
    optimizer.step()
    for name, expected in gradients.items():
        moved = (before[name] - model.state_dict()[name]) / rate
        np.testing.assert_allclose(moved, expected, rtol=1e-11, atol=1e-13, err_msg=name)


def test_the_jacobian_of_relu_is_diagonal():
    """Seed 004: dL/du = (dh/du)^T dL/dh, written with the whole matrix."""
    u, dh = normal((6,)), normal((6,), seed=1)
    u[2] = 0  # f(0) = 0 in the document
    jacobian = np.diag(np.where(u > 0, 1.0, 0.0))
    relu = nn.ReLU()
    relu.forward(u[None])
    np.testing.assert_array_equal(relu.backward(dh[None])[0], jacobian.T @ dh)


# Seed 001: an arbitrary function, and gradients by layer


def cumulative():
    return nn.Function(lambda x: np.cumsum(x, axis=1), lambda x, dy: np.cumsum(dy[:, ::-1], axis=1)[:, ::-1])


def matrix(J):
    return nn.Function(lambda x: x @ J.T, lambda x, dy: dy @ J)


def test_a_function_of_ones_own():
    layer, J = cumulative(), np.tril(np.ones((5, 5)))
    x, dy = normal((3, 5)), normal((3, 5), seed=1)
    np.testing.assert_allclose(layer(x), x @ J.T, rtol=1e-14)
    np.testing.assert_allclose(layer.backward(dy), dy @ J, rtol=1e-14)  # J^T dy, by rows
    assert layer.backward(dy, input_gradient=False) is None
    assert nbprop.gradcheck(cumulative(), x).error < 1e-9
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), matrix(normal((2, 4))), nn.Linear(2, 3))
    assert nbprop.gradcheck(model, normal((2, 3))).error < 1e-8


def test_a_function_on_maps():
    swap = nn.Function(lambda x: x[:, ::-1], lambda x, dy: dy[:, ::-1])
    model = nn.Sequential(nn.Conv2d(2, 3, 2), swap, nn.Conv2d(3, 2, 2))
    assert nbprop.gradcheck(model, normal((2, 2, 5, 4))).error < 1e-8


@pytest.mark.parametrize("forward, product, message", [
    (lambda x: x, lambda x, dy: dy[:, :2], r"product\(x, dy\) has shape \(2, 2\); expected \(2, 3\)"),
    (lambda x: x, lambda x, dy: dy.tolist(), r"product\(x, dy\) returned a list; expected an array of float64"),
    (lambda x: x, lambda x, dy: dy.astype("f"), "an array of float32; expected an array of float64"),
    (lambda x: 1.0, lambda x, dy: dy, r"forward\(x\) returned a float; expected an array of float64"),
])  # fmt: skip
def test_functions_are_checked(forward, product, message):
    layer = nn.Function(forward, product)
    with pytest.raises(ValueError, match=message):
        layer.forward(normal((2, 3)))
        layer.backward(normal((2, 3)))


def test_a_product_of_another_jacobian_is_found():
    with pytest.raises(ValueError, match="Function: the gradient by input at"):
        nbprop.gradcheck(nn.Function(np.sin, lambda x, dy: dy * np.sin(x)), normal((2, 3)))
    with pytest.raises(ValueError, match="jacobian_product is None; expected a function"):
        nn.Function(np.sin, None)


def test_gradient_norms():
    nbprop.manual_seed(0)
    block = nn.Residual(nn.Sequential(nn.Linear(4, 4, **F64), nn.PReLU(dtype=np.float64)))
    model = nn.Sequential(nn.Linear(3, 4, **F64), nn.Tanh(), block)
    model.forward(normal((5, 3)))
    model.backward(normal((5, 4)))
    norms = nbprop.gradient_norms(model)
    assert list(norms) == ["0", "2.inner.0", "2.inner.1"]
    for name, norm in norms.items():
        grads = [p.grad for n, p in model.named_parameters() if n.rpartition(".")[0] == name]
        assert norm == pytest.approx(np.sqrt(sum(np.sum(g**2) for g in grads)), rel=1e-12)
    assert np.sqrt(sum(n**2 for n in norms.values())) == pytest.approx(optim.grad_norm(model), rel=1e-12)
    assert list(nbprop.gradient_norms(model[0])) == ["Linear"]
    assert nbprop.gradient_norms(nn.ReLU()) == {}


@pytest.mark.parametrize("activation, vanishes", [(nn.Sigmoid, True), (nn.ReLU, False)])
def test_gradients_vanish_through_sigmoids(activation, vanishes):
    """Each layer multiplies: sigmoid's slope is at most 1/4; ReLU with He's weights keeps the size."""
    nbprop.manual_seed(0)
    layers = [layer for _ in range(12) for layer in (nn.Linear(32, 32), activation())]
    model = nn.Sequential(*layers)
    for layer in model:
        for p in layer.parameters():
            if p.data.ndim == 2:
                p.data[...] = normal(p.shape, np.float32) * np.float32(np.sqrt(2 / 32))
    y = model.forward(normal((16, 32), np.float32))
    model.backward(np.ones_like(y))
    norms = list(nbprop.gradient_norms(model).values())
    assert (norms[0] < 1e-4 * norms[-1]) is vanishes
