"""Padding and cropping: loops against central differences, the fast twin against them, np.pad and torch."""

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
from nbprop.ops.border import border_backward, border_forward

MODES = ["constant", "reflect", "replicate", "circular"]
CHANNELS = [1, 2, 3, 7, 16, 17]


@st.composite
def borders(draw):
    """A shape, a padding that fits it, and a mode; some sides crop."""
    mode = draw(st.sampled_from(MODES))
    H, W = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    sides = []
    for size in (W, H):
        low = draw(st.integers(-(size - 1), 0))
        high = draw(st.integers(-(size - 1) - low, 0))
        left = size + low + high  # what cropping leaves
        most = {"reflect": size - 1, "circular": left}.get(mode, 9)
        sides += [side or draw(st.integers(0, most)) for side in (low, high)]
    shape = draw(st.integers(1, 3)), draw(st.sampled_from(CHANNELS)), H, W
    return shape, tuple(sides), mode


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("padding", [2, (1, 0, 2, 3), (-1, 2, 1, -2)], ids=str)
def test_reference_gradient(mode, padding):
    x = normal((2, 2, 5, 4))
    with backend.using("reference"):
        dy = normal(border_forward(x, padding, mode, 0.5).shape, seed=1)
        dx = border_backward(dy, x.shape, padding, mode)
        numeric = numeric_gradient(lambda v: border_forward(v, padding, mode, 0.5), x, dy)
    assert_close(dx, numeric, 1e-7)


@given(borders(), dtypes)
@settings(max_examples=80)
def test_cpu_as_reference(case, dtype):
    shape, padding, mode = case
    y, expected = both(border_forward, normal(shape, dtype), padding, mode, -1.5)
    np.testing.assert_array_equal(y, expected)
    dx, expected = both(border_backward, normal(y.shape, dtype, 1), shape, padding, mode)
    assert_close(dx, expected, TOLERANCE[np.dtype(dtype)])
    assert y.dtype == dx.dtype == dtype


@pytest.mark.parametrize("mode, numpys", list(zip(MODES, ["constant", "reflect", "edge", "wrap"])))
def test_as_numpy(mode, numpys):
    x = normal((2, 3, 6, 7))
    widths = ((0, 0), (0, 0), (1, 4), (3, 2))
    constant = {"constant_values": 0.25} if mode == "constant" else {}
    np.testing.assert_array_equal(border_forward(x, (3, 2, 1, 4), mode, 0.25),
                                  np.pad(x, widths, numpys, **constant))


@needs_torch
@given(borders(), dtypes)
@settings(max_examples=80)
def test_as_torch(case, dtype):
    import torch

    shape, padding, mode = case
    x = normal(shape, dtype)
    t = torch.from_numpy(np.ascontiguousarray(x)).requires_grad_(True)
    expected = torch.nn.functional.pad(t, padding, mode)
    y = border_forward(x, padding, mode)
    np.testing.assert_array_equal(y, expected.detach().numpy())
    dy = normal(y.shape, dtype, 1)
    expected.backward(torch.from_numpy(np.ascontiguousarray(dy)))
    assert_close(border_backward(dy, shape, padding, mode), t.grad.numpy(), TOLERANCE[np.dtype(dtype)])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", [(8, 3, 224, 224), (4, 33, 61, 67)])
def test_adjoint_at_full_size(mode, shape):
    padding = (9, 7, 5, -3)
    x = normal(shape)
    dy = normal(border_forward(x, padding, mode).shape, seed=1)
    adjoint_check(lambda v: border_forward(v, padding, mode),
                  lambda d: border_backward(d, shape, padding, mode), x, dy)


def test_written_out():
    row = np.arange(4.0)[None, None, None]
    for mode, expected in [("constant", [9, 9, 0, 1, 2, 3, 9, 9]), ("reflect", [2, 1, 0, 1, 2, 3, 2, 1]),
                           ("replicate", [0, 0, 0, 1, 2, 3, 3, 3]), ("circular", [2, 3, 0, 1, 2, 3, 0, 1])]:
        np.testing.assert_array_equal(border_forward(row, (2, 2, 0, 0), mode, 9)[0, 0, 0], expected)
    # What was cropped does not come round again.
    np.testing.assert_array_equal(border_forward(row, (-1, 2, 0, 0), "circular")[0, 0, 0], [1, 2, 3, 1, 2])


def test_memory_orders():
    x = normal((2, 3, 5, 6), np.float32)
    y = border_forward(x, (1, 2, 0, 3), "reflect")
    dy = normal(y.shape, np.float32, 1)
    dx = border_backward(dy, x.shape, (1, 2, 0, 3), "reflect")
    for name, v in memory_orders(x):
        before = v.copy()
        np.testing.assert_array_equal(border_forward(v, (1, 2, 0, 3), "reflect"), y, err_msg=name)
        np.testing.assert_array_equal(v, before, err_msg=name)
    for name, v in memory_orders(dy):
        np.testing.assert_array_equal(border_backward(v, x.shape, (1, 2, 0, 3), "reflect"), dx, err_msg=name)


def test_same_bits_on_any_number_of_threads():
    assert_same_bits("""
from nbprop.ops.border import border_backward, border_forward
def run():
    for mode in ("constant", "reflect", "replicate", "circular"):
        x = np.random.default_rng(0).standard_normal((3, 5, 61, 67), np.float32)
        y = border_forward(x, (9, 8, 7, 11), mode)
        dy = np.random.default_rng(1).standard_normal(y.shape, np.float32)
        yield from (y, border_backward(dy, x.shape, (9, 8, 7, 11), mode))
""")


@pytest.mark.parametrize("layer, padding, mode, value", [
    (nn.ZeroPad2d(1), 1, "constant", 0),
    (nn.ConstantPad2d((1, 2, 3, -1), 3.5), (1, 2, 3, -1), "constant", 3.5),
    (nn.ReflectionPad2d(2), 2, "reflect", 0),
    (nn.ReplicationPad2d((0, 3, 1, 2)), (0, 3, 1, 2), "replicate", 0),
    (nn.CircularPad2d(3), 3, "circular", 0),
    (nn.Crop2d((1, 0, 2, 1)), (-1, 0, -2, -1), "constant", 0),
], ids=lambda v: type(v).__name__ if isinstance(v, nn.Module) else "")
def test_layer(layer, padding, mode, value):
    x = normal((2, 3, 6, 5), np.float32)
    mine = layer(x)
    expected = border_forward(x, padding, mode, value)
    np.testing.assert_array_equal(mine, expected)
    dy = normal(mine.shape, np.float32, 1)
    dx = layer.backward(np.ascontiguousarray(dy))
    np.testing.assert_array_equal(dx, border_backward(dy, x.shape, padding, mode))
    assert layer.backward(dy, input_gradient=False) is None
    layer(x + 1)
    np.testing.assert_array_equal(mine, expected)  # what a call returned is the caller's
    assert layer.backward(dy) is dx


@pytest.mark.parametrize("mode", MODES)
def test_empty_batch_and_nan(mode):
    empty = np.zeros((0, 3, 5, 5), np.float32)
    assert border_forward(empty, 2, mode).shape == (0, 3, 9, 9)
    assert border_backward(np.zeros((0, 3, 9, 9), np.float32), empty.shape, 2, mode).shape == empty.shape
    x = np.full((1, 2, 3, 3), np.nan, np.float32)
    assert np.isnan(border_forward(x, (0, 0, -1, 0), mode)).all()


@pytest.mark.parametrize("args, message", [
    ((1, "mirror"), "mode is 'mirror'; expected one of constant, reflect, replicate, circular"),
    (((1, 2),), r"padding is \(1, 2\); expected an integer or four"),
    ((1.5,), "padding is 1.5; expected an integer or four"),
    ((True,), "padding is True; expected an integer"),
    (((0, 0, -2, -2),), r"padding is \(-2, -2\) on height 4, which crops all of it"),
    (((0, 0, -5, 3),), r"padding is \(-5, 3\) on height 4, which crops all of it"),
    ((4, "reflect"), r'padding is \(4, 4\) on height 4 with mode "reflect"; expected at most 3'),
    (((0, 6, 0, 0), "circular"), r'padding is \(0, 6\) on width 5 with mode "circular"; expected at most 5'),
    (((-1, 5, 0, 0), "circular"), "expected at most 4"),
])
def test_bad_sizes(args, message):
    with pytest.raises(ValueError, match=message):
        border_forward(np.zeros((1, 2, 4, 5), np.float32), *args)


def test_bad_arrays():
    with pytest.raises(ValueError, match="x has dtype int64; expected float32 or float64"):
        border_forward(np.zeros((1, 1, 4, 4), int), 2)
    with pytest.raises(ValueError, match=r"x has shape \(4, 4\); expected \(N, C, H, W\)"):
        nn.ZeroPad2d(1)(np.zeros((4, 4), np.float32))
    with pytest.raises(ValueError, match=r"dy has shape \(1, 1, 4, 4\); expected \(1, 1, 6, 6\)"):
        border_backward(np.zeros((1, 1, 4, 4)), (1, 1, 4, 4), 1)
    with pytest.raises(ValueError, match="crop is -1; expected no negative number: ZeroPad2d adds rows"):
        nn.Crop2d(-1)
    with pytest.raises(TypeError, match="value"):
        nn.ZeroPad2d(1, value=2)
