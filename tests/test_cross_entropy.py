"""Cross entropy: textbook loops against central differences, the fast twin against them, and torch."""

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
    rng,
)

from nbprop import backend
from nbprop.nn.loss import CrossEntropyLoss
from nbprop.ops.cross_entropy import cross_entropy_backward, cross_entropy_forward

OPTIONS = [
    {},
    {"reduction": "sum"},
    {"reduction": "none"},
    {"label_smoothing": 0.1},
    {"ignore_index": 2},
    {"weight": True},
    {"weight": True, "label_smoothing": 0.3, "ignore_index": 1, "reduction": "mean"},
    {"weight": True, "label_smoothing": 1.0, "ignore_index": 1, "reduction": "sum"},
]
options = pytest.mark.parametrize("kwargs", OPTIONS, ids=str)
probabilities = pytest.mark.parametrize("soft", [False, True], ids=["labels", "probabilities"])


def case(shape, kwargs, soft=False, dtype=np.float64):
    """Logits, target and options of one call."""
    N, C, *size = shape
    logits = 3 * normal(shape, dtype)
    target = rng(1, *shape).integers(0, C, (N, *size))
    if soft:
        kwargs = {k: v for k, v in kwargs.items() if k != "ignore_index"}
        target = np.exp(normal(shape, np.float64, seed=2))
        target = (target / target.sum(axis=1, keepdims=True)).astype(dtype)
    if kwargs.get("weight") is True:
        kwargs = {**kwargs, "weight": rng(3, C).uniform(0.5, 2, C).astype(dtype)}
    return logits, target, kwargs


@options
@probabilities
def test_reference_gradient(kwargs, soft):
    logits, target, kwargs = case((3, 4, 2, 1), kwargs, soft)
    with backend.using("reference"):
        dy = normal((3, 2, 1)) if kwargs.get("reduction") == "none" else 1.7
        dlogits = cross_entropy_backward(logits, target, **kwargs, dy=dy)
        numeric = numeric_gradient(lambda z: cross_entropy_forward(z, target, **kwargs), logits, dy)
    assert_close(dlogits, numeric, 1e-7)


@given(st.data(), dtypes, st.sampled_from(OPTIONS), st.booleans())
@settings(max_examples=60)
def test_tuned_is_reference(data, dtype, kwargs, soft):
    shape = data.draw(st.tuples(st.integers(1, 5), st.sampled_from([1, 3, 10, 33, 100])))
    if data.draw(st.booleans()):
        shape += data.draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    logits, target, kwargs = case(shape, kwargs, soft, dtype)
    with backend.using("reference"):
        loss, dlogits = (f(logits, target, **kwargs) for f in (cross_entropy_forward, cross_entropy_backward))
    tolerance = 4 * TOLERANCE[np.dtype(dtype)]
    scale = np.abs(logits).max()  # one class: the loss is 0, up to rounding of the logits
    np.testing.assert_allclose(cross_entropy_forward(logits, target, **kwargs), loss, rtol=tolerance,
                               atol=tolerance * scale * np.size(logits))  # fmt: skip
    np.testing.assert_allclose(cross_entropy_backward(logits, target, **kwargs), dlogits, rtol=10 * tolerance,
                               atol=tolerance * scale)  # fmt: skip


@needs_torch
@options
@probabilities
@pytest.mark.parametrize("shape", [(5, 7), (1, 1), (3, 5, 4, 2)], ids=str)
def test_as_torch(kwargs, soft, shape):
    import torch

    logits, target, kwargs = case(shape, kwargs, soft)
    theirs = {k: torch.tensor(v) if k == "weight" else v for k, v in kwargs.items()}
    z = torch.tensor(logits, requires_grad=True)
    expected = torch.nn.functional.cross_entropy(z, torch.tensor(target), **theirs)
    np.testing.assert_allclose(cross_entropy_forward(logits, target, **kwargs), expected.detach().numpy(),
                               rtol=1e-12, atol=1e-13, equal_nan=True)  # fmt: skip
    dy = normal(tuple(expected.shape), seed=4) if expected.ndim else np.float64(0.3)
    expected.backward(torch.tensor(dy))
    ours = cross_entropy_backward(logits, target, **kwargs, dy=dy)
    if np.isfinite(expected.detach().numpy()).all():
        np.testing.assert_allclose(ours, z.grad.numpy(), rtol=1e-10, atol=1e-14)


def test_seed_004():
    """dL/dz_k = (p_k - 1(y = k)) / N."""
    logits, target, _ = case((6, 5), {})
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = (p - np.eye(5)[target]) / 6
    np.testing.assert_allclose(cross_entropy_backward(logits, target), expected, atol=1e-15)
    expected = -np.log(p[np.arange(6), target]).mean()
    assert cross_entropy_forward(logits, target) == pytest.approx(expected, rel=1e-14)


def test_large_logits():
    logits = np.array([[1000.0, 0.0, -1000.0], [-1e30, 1e30, 0.0]])
    for target, losses in (([0, 1], [0, 0]), ([2, 0], [2000, 2e30])):
        ours = cross_entropy_forward(logits, np.array(target), reduction="none")
        np.testing.assert_array_equal(ours, losses)
    assert np.isfinite(cross_entropy_backward(logits, np.array([2, 0]))).all()
    low = np.float32([[0, -103.5]])  # p is a denormal, its logarithm is not lost
    assert cross_entropy_forward(low, np.array([1])) == pytest.approx(103.5, rel=1e-7)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_layer_refuses_bad_targets(reduction):
    loss = CrossEntropyLoss(reduction=reduction)
    logits = normal((3, 4), np.float32)
    for _ in range(4):
        loss.forward(logits, np.array([0, 3, 1]))
        with pytest.raises(ValueError, match="target has the label 9 at 1"):
            loss.forward(logits, np.array([0, 9, 1]))
        with pytest.raises(ValueError, match="target has probabilities that sum to 36"):
            loss.forward(logits, np.full((3, 4), 9, np.float32))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nan_stays_in_its_row(dtype):
    logits = normal((4, 20), dtype)
    logits[1, 3] = np.nan
    target = np.arange(4)
    losses = cross_entropy_forward(logits, target, reduction="none")
    assert np.isnan(losses).tolist() == [False, True, False, False]
    dlogits = cross_entropy_backward(logits, target)
    assert np.isnan(dlogits).all(axis=1).tolist() == [False, True, False, False]
    assert np.isnan(cross_entropy_forward(logits, target))
    target[1] = -100
    assert np.isfinite(cross_entropy_forward(logits, target))
    assert not cross_entropy_backward(logits, target)[1].any()


def test_nothing_takes_part():
    for logits, target in ((normal((0, 3)), np.zeros(0, np.int64)), (normal((2, 3)), np.full(2, -100))):
        assert np.isnan(cross_entropy_forward(logits, target))  # as torch
        assert cross_entropy_forward(logits, target, reduction="sum") == 0
        assert cross_entropy_forward(logits, target, reduction="none").tolist() == [0] * len(logits)
        assert not cross_entropy_backward(logits, target).any()
    assert cross_entropy_backward(normal((0, 3)), np.zeros(0, np.int64)).shape == (0, 3)


def test_memory_orders():
    for shape in ((4, 5), (3, 5, 2, 4)):
        logits, target, _ = case(shape, {})
        soft = case(shape, {}, True)[1]
        for goal in (target, soft):
            expected = cross_entropy_forward(logits, goal), cross_entropy_backward(logits, goal)
            for (name, z), (_, t) in zip(memory_orders(logits), memory_orders(goal)):
                before = z.copy(), t.copy()
                assert cross_entropy_forward(z, t) == expected[0], name
                np.testing.assert_array_equal(cross_entropy_backward(z, t), expected[1])
                np.testing.assert_array_equal(z, before[0])
                np.testing.assert_array_equal(t, before[1])


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.uint64])
def test_label_dtypes(dtype):
    logits, target, _ = case((4, 5), {})
    assert cross_entropy_forward(logits, target.astype(dtype)) == cross_entropy_forward(logits, target)


def test_any_number_of_threads():
    assert_same_bits("""
from nbprop.ops.cross_entropy import cross_entropy_forward as forward, cross_entropy_backward as backward
rng = np.random.default_rng(0)
z = rng.standard_normal((301, 333)).astype(np.float32)
t = rng.integers(0, 333, 301)
q = (np.exp(z) / np.exp(z).sum(axis=1, keepdims=True))
def run():
    for target in t, q:
        yield np.float64(forward(z, target))
        yield backward(z, target, label_smoothing=0.1)
""")


@options
@probabilities
def test_layer(kwargs, soft):
    logits, target, kwargs = case((5, 7), kwargs, soft, np.float32)
    loss = CrossEntropyLoss(**kwargs)
    for _ in range(2):
        value = loss(logits, target)
        np.testing.assert_array_equal(value, cross_entropy_forward(logits, target, **kwargs))
        np.testing.assert_array_equal(loss.backward(), cross_entropy_backward(logits, target, **kwargs))
    assert isinstance(value, np.ndarray if kwargs.get("reduction") == "none" else float)
    loss.forward(logits, target)
    expected = cross_entropy_backward(logits, target, **kwargs, dy=2.0)
    np.testing.assert_array_equal(loss.backward(2.0), expected)


def test_layer_allocates_nothing():
    import tracemalloc

    logits, target, _ = case((256, 100), {}, dtype=np.float32)
    loss = CrossEntropyLoss(label_smoothing=0.1)
    loss.forward(logits, target)
    tracemalloc.start()
    loss.forward(logits, target)
    loss.backward()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000


Z, T = np.zeros((2, 3)), np.array([0, 1])


@pytest.mark.parametrize("args, kwargs, message", [
    ((Z, np.array([0, 3])), {}, r"target has the label 3 at 1; expected 0 to 2, or ignore_index=-100"),
    ((Z, np.array([-1, 0])), {}, r"target has the label -1 at 0"),
    ((np.zeros((1, 3, 2, 2)), np.array([[[0, 1], [2, 9]]])), {}, r"the label 9 at \(0, 1, 1\)"),
    ((Z, np.array([0, 1, 2])), {}, r"target has shape \(3,\); expected \(2,\)"),
    ((Z, np.array([0.0, 1.0])), {}, r"target has shape \(2,\); expected \(2, 3\)"),
    ((Z, T.astype(bool)), {}, "target has dtype bool"),
    ((Z, Z.astype(np.float32)), {}, "logits and target have different dtypes"),
    ((Z, np.full((2, 3), 0.5)), {}, r"target has probabilities that sum to 1.5, or a negative one, at 0"),
    ((Z, np.array([[1, 0, 0], [1.5, -0.5, 0]])), {}, "or a negative one, at 1"),
    ((Z.astype(int), T), {}, "logits has dtype int64"),
    ((np.zeros(3), T), {}, r"logits has shape \(3,\)"),
    ((np.zeros((2, 0)), T), {}, "at least one class"),
    ((Z, T), {"reduction": "avg"}, 'reduction is .avg.; expected "mean", "sum" or "none"'),
    ((Z, T), {"label_smoothing": 1.5}, "label_smoothing is 1.5; expected a number from 0 to 1"),
    ((Z, T), {"weight": np.ones(4)}, r"weight has shape \(4,\); expected \(3,\)"),
    ((Z, T), {"weight": np.ones(3, int)}, "weight has dtype int64"),
    ((Z, T), {"ignore_index": 1.5}, "ignore_index is 1.5"),
    ((Z, np.eye(3)[:2]), {"ignore_index": 1}, "ignore_index is 1 and target has probabilities"),
])  # fmt: skip
def test_bad_input(args, kwargs, message):
    for name in ("cpu", "reference"):
        with backend.using(name), pytest.raises(ValueError, match=message):
            cross_entropy_forward(*args, **kwargs)
    with pytest.raises(ValueError, match=message):
        CrossEntropyLoss(**kwargs).forward(*args)


def test_arguments_that_look_otherwise_than_the_last_are_looked_at_again():
    loss, target = CrossEntropyLoss(), np.arange(4) % 3
    z = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)
    expected = loss.forward(z, target), loss.forward(z, target)
    assert [loss.forward(z, target.astype(np.int32)), loss.forward(np.asfortranarray(z), target)] == [*expected]
    assert loss.forward(z, np.repeat(target, 2)[::2]) == expected[0]
    loss.forward(z, target)
    for bad, message in ((target[:3], "target has shape"), (target > 0, "dtype bool"), (target + 1, "the label 3")):
        with pytest.raises(ValueError, match=message):
            loss.forward(z, bad)
    with pytest.raises(ValueError, match="target has shape"):
        loss.forward(z[:3], target)
    assert loss.forward(z, target) == expected[0]


def test_unknown_argument():
    with pytest.raises(TypeError, match="size_average"):
        CrossEntropyLoss(size_average=True)
    loss = CrossEntropyLoss(reduction="none")
    loss.forward(Z, T)
    with pytest.raises(ValueError, match="dy has shape"):
        loss.backward(np.ones(5))
