"""Resizing: loops against central differences, the fast twin against them, and torch."""

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
)

from nbprop import adjoint_check, backend, nn
from nbprop.ops.upsample import upsample_backward, upsample_forward

RULES = [("nearest", None), ("bilinear", None), ("bilinear", False), ("bilinear", True)]


@st.composite
def resizings(draw):
    """A shape, and arguments that fit it: larger, smaller or equal, by size or by scale."""
    H, W = draw(st.integers(1, 13)), draw(st.integers(1, 13))
    mode, align_corners = draw(st.sampled_from(RULES))
    if draw(st.booleans()):
        target = {"size": (draw(st.integers(1, 29)), draw(st.integers(1, 29)))}
    else:
        scale = st.one_of(st.integers(1, 4), st.sampled_from([1.5, 2.2, 1.05, 3.1]))
        target = {"scale_factor": (draw(scale), draw(scale))}
    shape = draw(st.integers(1, 3)), draw(st.sampled_from([1, 2, 3, 7, 16, 17])), H, W
    return shape, {**target, "mode": mode, "align_corners": align_corners}


@pytest.mark.parametrize("mode, align_corners", RULES)
@pytest.mark.parametrize("target", [
    {"size": (7, 3)}, {"scale_factor": 2}, {"scale_factor": (0.6, 1.7)},
], ids=str)
def test_reference_gradient(mode, align_corners, target):
    x = normal((2, 2, 4, 5))
    kwargs = {**target, "mode": mode, "align_corners": align_corners}
    with backend.using("reference"):
        dy = normal(upsample_forward(x, **kwargs).shape, seed=1)
        dx = upsample_backward(dy, x.shape, **kwargs)
        numeric = numeric_gradient(lambda v: upsample_forward(v, **kwargs), x, dy)
    assert_close(dx, numeric, 1e-7)


@given(resizings(), dtypes)
@settings(max_examples=80)
def test_cpu_as_reference(case, dtype):
    shape, kwargs = case
    y, expected = both(upsample_forward, normal(shape, dtype), **kwargs)
    assert_close(y, expected, TOLERANCE[np.dtype(dtype)])
    dx, expected = both(upsample_backward, normal(y.shape, dtype, 1), shape, **kwargs)
    assert_close(dx, expected, TOLERANCE[np.dtype(dtype)])
    assert y.dtype == dx.dtype == dtype


@needs_torch
@given(resizings(), dtypes)
@settings(max_examples=150)
def test_as_torch(case, dtype):
    import torch

    shape, kwargs = case
    if kwargs["mode"] == "nearest":  # fewer channels take torch to other kernels, with other rounding
        shape = shape[0], max(shape[1], 4), *shape[2:]
    x = normal(shape, dtype)
    t = torch.from_numpy(np.ascontiguousarray(x)).contiguous(memory_format=torch.channels_last)
    t.requires_grad_(True)
    expected = torch.nn.functional.interpolate(t, **kwargs)
    y = upsample_forward(x, **kwargs)
    assert_close(y, expected.detach().numpy(), TOLERANCE[np.dtype(dtype)])
    dy = normal(y.shape, dtype, 1)
    expected.backward(torch.from_numpy(np.ascontiguousarray(dy)))
    dx, theirs = upsample_backward(dy, shape, **kwargs), t.grad.numpy()
    size = max(np.linalg.norm(theirs), np.linalg.norm(dy))  # many terms of dy may cancel in one of dx
    assert np.linalg.norm(dx - theirs) <= TOLERANCE[np.dtype(dtype)] * size


@pytest.mark.parametrize("mode, align_corners", RULES)
@pytest.mark.parametrize("shape", [(4, 3, 112, 112), (4, 33, 31, 37)])
def test_adjoint_at_full_size(mode, align_corners, shape):
    kwargs = {"size": (173, 97), "mode": mode, "align_corners": align_corners}
    adjoint_check(lambda v: upsample_forward(v, **kwargs), lambda d: upsample_backward(d, shape, **kwargs),
                  normal(shape), normal((*shape[:2], 173, 97), seed=1))


def test_written_out():
    row = np.array([[[[0.0, 4.0]]]])
    np.testing.assert_array_equal(upsample_forward(row, (1, 4))[0, 0, 0], [0, 0, 4, 4])
    np.testing.assert_array_equal(upsample_forward(row, (1, 4), mode="bilinear")[0, 0, 0], [0, 1, 3, 4])
    y = upsample_forward(row, (1, 5), mode="bilinear", align_corners=True)
    np.testing.assert_array_equal(y[0, 0, 0], [0, 1, 2, 3, 4])


def test_memory_orders():
    x = normal((2, 3, 5, 6), np.float32)
    for mode in ("nearest", "bilinear"):
        y = upsample_forward(x, (7, 11), mode=mode)
        dy = normal(y.shape, np.float32, 1)
        dx = upsample_backward(dy, x.shape, (7, 11), mode=mode)
        for name, v in memory_orders(x):
            before = v.copy()
            np.testing.assert_array_equal(upsample_forward(v, (7, 11), mode=mode), y, err_msg=name)
            np.testing.assert_array_equal(v, before, err_msg=name)
        for name, v in memory_orders(dy):
            np.testing.assert_array_equal(upsample_backward(v, x.shape, (7, 11), mode=mode), dx, err_msg=name)


def test_same_bits_on_any_number_of_threads():
    assert_same_bits("""
from nbprop.ops.upsample import upsample_backward, upsample_forward
def run():
    for mode in ("nearest", "bilinear"):
        x = np.random.default_rng(0).standard_normal((3, 5, 61, 67), np.float32)
        y = upsample_forward(x, (101, 97), mode=mode)
        dy = np.random.default_rng(1).standard_normal(y.shape, np.float32)
        yield from (y, upsample_backward(dy, x.shape, (101, 97), mode=mode))
""")


@pytest.mark.parametrize("arguments", [{"size": 9}, {"scale_factor": 2.0, "mode": "bilinear"},
                                       {"size": (3, 8), "mode": "bilinear", "align_corners": True}], ids=str)
def test_layer(arguments):
    x = normal((2, 3, 6, 5), np.float32)
    layer = nn.Upsample(**arguments)
    mine = layer(x)
    expected = upsample_forward(x, **arguments)
    np.testing.assert_array_equal(mine, expected)
    dy = normal(mine.shape, np.float32, 1)
    dx = layer.backward(np.ascontiguousarray(dy))
    np.testing.assert_array_equal(dx, upsample_backward(dy, x.shape, **arguments))
    assert layer.backward(dy, input_gradient=False) is None
    layer(x + 1)
    np.testing.assert_array_equal(mine, expected)  # what a call returned is the caller's
    assert layer.backward(dy) is dx


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_empty_batch_and_nan(mode):
    empty = np.zeros((0, 3, 5, 5), np.float32)
    assert upsample_forward(empty, 7, mode=mode).shape == (0, 3, 7, 7)
    dy = np.zeros((0, 3, 7, 7), np.float32)
    assert upsample_backward(dy, empty.shape, 7, mode=mode).shape == empty.shape
    x = np.full((1, 2, 3, 3), np.nan, np.float32)
    assert np.isnan(upsample_forward(x, 5, mode=mode)).all()


@pytest.mark.parametrize("kwargs, message", [
    ({}, "size is None and scale_factor is None; expected exactly one of them"),
    ({"size": 3, "scale_factor": 2}, "size is 3 and scale_factor is 2; expected exactly one of them"),
    ({"size": 3, "mode": "bicubic"}, "mode is 'bicubic'; expected \"nearest\" or \"bilinear\""),
    ({"size": 3, "align_corners": True}, 'align_corners is True and mode is "nearest"; expected None'),
    ({"size": 0}, "size is 0; expected an integer of at least 1"),
    ({"scale_factor": 0}, "scale_factor is 0; expected a number above 0"),
    ({"scale_factor": "2"}, "scale_factor is '2'; expected a number above 0"),
    ({"scale_factor": 0.2}, "scale_factor is 0.2 on planes of 4 x 5; expected an output of at least 1 x 1"),
])
def test_bad_sizes(kwargs, message):
    with pytest.raises(ValueError, match=message):
        upsample_forward(np.zeros((1, 2, 4, 5), np.float32), **kwargs)
    with pytest.raises(ValueError, match=message):
        nn.Upsample(**kwargs)(np.zeros((1, 2, 4, 5), np.float32))


def test_bad_arrays():
    with pytest.raises(ValueError, match="x has dtype uint8; expected float32 or float64"):
        upsample_forward(np.zeros((1, 1, 4, 4), np.uint8), 2)
    with pytest.raises(ValueError, match=r"x has planes of 0 x 4; expected at least 1 x 1"):
        upsample_forward(np.zeros((1, 1, 0, 4)), 2)
    with pytest.raises(ValueError, match=r"dy has shape \(1, 1, 4, 4\); expected \(1, 1, 6, 6\)"):
        upsample_backward(np.zeros((1, 1, 4, 4)), (1, 1, 4, 4), 6)
    with pytest.raises(TypeError, match="recompute_scale_factor"):
        nn.Upsample(scale_factor=2, recompute_scale_factor=True)
