"""Total variation: loops against central differences, the fast twin against them, and torch's autograd."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import assert_close, assert_same_bits, both, dtypes, memory_orders, needs_torch, normal, rng

from nbprop import backend, nn
from nbprop.ops.tv import total_variation_backward, total_variation_forward

TOLERANCE = {np.dtype(np.float32): 3e-6, np.dtype(np.float64): 1e-13}
SHAPES = st.tuples(st.integers(1, 3), st.sampled_from([1, 2, 3, 7, 16, 17]), st.integers(1, 80),
                   st.integers(1, 40))
OPTIONS = st.fixed_dictionaries({"anisotropic": st.booleans(), "eps": st.sampled_from([0.0, 0.01, 0.5]),
                                 "reduction": st.sampled_from(["sum", "mean", "batchmean", "none"])})


@pytest.mark.parametrize("anisotropic", [False, True])
@pytest.mark.parametrize("eps", [0.0, 0.1])
@pytest.mark.parametrize("shape", [(2, 2, 4, 5), (1, 1, 1, 6), (1, 2, 5, 1)])
def test_reference_gradient(shape, eps, anisotropic):
    # Differences of at least 1, away from the kinks.
    x = rng(0).permutation(np.arange(np.prod(shape), dtype=np.float64)).reshape(shape)
    with backend.using("reference"):
        dx = total_variation_backward(x, anisotropic, eps)
        numeric = np.empty_like(x)
        for i in np.ndindex(*shape):
            values = []
            for step in (1e-4, -1e-4):
                moved = x.copy()
                moved[i] += step
                values.append(total_variation_forward(moved, anisotropic, eps))
            numeric[i] = (values[0] - values[1]) / 2e-4
    # An extremum between two neighbours in a line has gradient 0 or 2: no relative error to speak of.
    np.testing.assert_allclose(dx, numeric, rtol=1e-7, atol=1e-7)


@given(SHAPES, OPTIONS, dtypes)
@settings(max_examples=60)
def test_cpu_as_reference(shape, options, dtype):
    x = rng(*shape).integers(-3, 4, shape).astype(dtype)  # with flat places
    value, expected = both(total_variation_forward, x, **options)
    assert_close(value, expected, TOLERANCE[np.dtype(dtype)])
    dx, expected = both(total_variation_backward, x, **options)
    assert_close(dx, expected, TOLERANCE[np.dtype(dtype)])
    assert dx.dtype == dtype


def torch_expression(t, anisotropic, eps):
    """Equation 8 by slices, with zero differences at the far edges."""
    import torch

    pad = torch.nn.functional.pad
    across = pad(t[..., 1:] - t[..., :-1], (0, 1))
    down = pad(t[..., 1:, :] - t[..., :-1, :], (0, 0, 0, 1))
    if anisotropic:
        return (across**2 + eps**2).sqrt() + (down**2 + eps**2).sqrt()
    return (across**2 + down**2 + eps**2).sqrt()


@needs_torch
@given(SHAPES, OPTIONS.filter(lambda o: o["eps"] and o["reduction"] in ("sum", "mean")))
@settings(max_examples=40)
def test_as_torch(shape, options):
    import torch

    x = normal(shape)
    t = torch.from_numpy(np.ascontiguousarray(x)).requires_grad_(True)
    lengths = torch_expression(t, options["anisotropic"], options["eps"])
    value = lengths.sum() if options["reduction"] == "sum" else lengths.mean()
    value.backward()
    assert_close(total_variation_forward(x, **options), value.item(), 1e-12)
    assert_close(total_variation_backward(x, **options), t.grad.numpy(), 1e-12)


@pytest.mark.parametrize("name", ["cpu", "reference"])
def test_written_out(name):
    x = np.array([[[[0, 3], [4, 4.0]]]])
    with backend.using(name):
        # Lengths: (0, 0): 5; (0, 1): 1 down; (1, 0) and (1, 1) are flat.
        assert total_variation_forward(x) == 6
        np.testing.assert_allclose(total_variation_backward(x)[0, 0], [[-1.4, -0.4], [0.8, 1.0]])
        assert total_variation_forward(x, anisotropic=True) == 8
        np.testing.assert_allclose(total_variation_backward(x, True)[0, 0], [[-2, 0], [1, 1]])
        flat = np.full((2, 3, 4, 5), 7.0)
        assert total_variation_forward(flat) == 0
        assert not total_variation_backward(flat).any()
        assert not total_variation_backward(flat, eps=0.5).any()
        np.testing.assert_allclose(total_variation_forward(flat, eps=0.5), 60)
        one = np.array([[[[np.nan]]]])
        assert np.isnan(total_variation_forward(one)) and np.isnan(total_variation_backward(one)).all()


def test_gradient_is_shift_invariant_and_homogeneous():
    """TV does not see a constant: its gradient sums to 0. It is homogeneous: <x, gradient> = TV (Euler)."""
    x = normal((2, 3, 130, 70))
    for anisotropic in (False, True):
        dx = total_variation_backward(x, anisotropic)
        np.testing.assert_allclose(dx.sum(axis=(2, 3)), 0, atol=1e-10)
        np.testing.assert_allclose((x * dx).sum(), total_variation_forward(x, anisotropic), rtol=1e-12)


def test_memory_orders():
    x = normal((2, 3, 5, 6), np.float32)
    value, dx = total_variation_forward(x), total_variation_backward(x)
    for name, v in memory_orders(x):
        before = v.copy()
        assert total_variation_forward(v) == value, name
        np.testing.assert_array_equal(total_variation_backward(v), dx, err_msg=name)
        np.testing.assert_array_equal(v, before, err_msg=name)


def test_same_bits_on_any_number_of_threads():
    assert_same_bits("""
from nbprop.ops.tv import total_variation_backward, total_variation_forward
def run():
    x = np.random.default_rng(0).standard_normal((3, 3, 101, 67), np.float32)
    for anisotropic in (False, True):
        yield np.array(total_variation_forward(x, anisotropic))
        yield total_variation_backward(x, anisotropic)
""")


@pytest.mark.parametrize("reduction", ["sum", "mean", "batchmean", "none"])
def test_loss(reduction):
    x = normal((3, 2, 40, 7), np.float32)
    loss = nn.TotalVariationLoss(anisotropic=True, eps=0.1, reduction=reduction)
    value = loss(x)
    np.testing.assert_array_equal(value, total_variation_forward(x, True, 0.1, reduction))
    dx = loss.backward()
    expected = total_variation_backward(x, True, 0.1, reduction)
    np.testing.assert_array_equal(dx, expected)
    weights = rng(0).standard_normal(3).astype(np.float32) if reduction == "none" else 0.5
    loss.forward(x)
    scaled = expected * np.reshape(weights, (-1, 1, 1, 1))
    np.testing.assert_array_equal(loss.backward(weights), scaled)
    assert loss.backward() is dx


def test_empty_batch():
    empty = np.zeros((0, 3, 5, 5), np.float32)
    assert total_variation_forward(empty) == 0
    assert np.isnan(total_variation_forward(empty, reduction="mean"))
    assert total_variation_forward(empty, reduction="none").shape == (0,)
    assert total_variation_backward(empty).shape == empty.shape


def test_bad_input():
    x = np.zeros((2, 1, 4, 4), np.float32)
    with pytest.raises(ValueError, match="x has dtype int64; expected float32 or float64"):
        total_variation_forward(np.zeros((1, 1, 4, 4), int))
    with pytest.raises(ValueError, match=r"x has shape \(1, 1, 0, 4\); expected at least one channel"):
        total_variation_forward(np.zeros((1, 1, 0, 4)))
    with pytest.raises(ValueError, match="eps is -1; expected a number of at least 0"):
        nn.TotalVariationLoss(eps=-1)
    with pytest.raises(ValueError, match="reduction is 'max'; expected one of sum, mean, batchmean, none"):
        total_variation_backward(x, reduction="max")
    loss = nn.TotalVariationLoss(reduction="none")
    loss(x)
    with pytest.raises(ValueError, match=r"dy has shape \(3,\); expected \(2,\)"):
        loss.backward(np.ones(3))
