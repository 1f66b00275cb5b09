"""Transposed convolution: against central differences, the reference, the convolution it is the adjoint of, torch."""

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from oracle import TOLERANCE, assert_close, dtypes, memory_orders, needs_torch, normal, numeric_gradient

import nbprop
from nbprop import nn
from nbprop.ops.conv import conv2d_forward
from nbprop.ops.conv_transpose import (
    conv_transpose2d_backward_input as backward_input,
)
from nbprop.ops.conv_transpose import (
    conv_transpose2d_backward_weight as backward_weight,
)
from nbprop.ops.conv_transpose import (
    conv_transpose2d_forward as forward,
)

small = st.integers(1, 3)


@st.composite
def problems(draw):
    """Shapes and arguments whose output is not empty."""
    groups, cg, og = draw(small), draw(st.integers(1, 5)), draw(st.integers(1, 5))
    stride, dilation = draw(st.tuples(small, small)), draw(st.tuples(small, small))
    extra = tuple(draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation))
    kernel, padding = draw(st.tuples(small, small)), draw(st.tuples(st.integers(0, 2), st.integers(0, 2)))
    x_shape = (draw(small), groups * cg, draw(st.integers(1, 7)), draw(st.integers(1, 7)))
    arguments = {"stride": stride, "padding": padding, "output_padding": extra, "groups": groups, "dilation": dilation}
    sizes = [(x_shape[2 + i] - 1) * stride[i] - 2 * padding[i] + dilation[i] * (kernel[i] - 1) + extra[i] + 1
             for i in (0, 1)]
    assume(min(sizes) > 0)
    return x_shape, (groups * cg, og, *kernel), arguments


def passes(x, w, b, arguments, dy=None):
    y = forward(x, w, b, **arguments)
    dy = normal(y.shape, y.dtype, 3) if dy is None else dy
    return y, backward_input(dy, w, x.shape, **arguments), *backward_weight(dy, x, w.shape, **arguments)


# A 1x1 kernel whose output has pixels that no pixel of x meets: no matrix product over all pixels.
POINTWISE_AND_MORE = (2, 3, 4, 5), (3, 2, 1, 1), {"stride": 1, "padding": 0, "output_padding": (1, 2), "groups": 1,
                                                  "dilation": (2, 3)}


@settings(max_examples=25, deadline=None)
@given(problems(), dtypes)
@example(POINTWISE_AND_MORE, np.float32)
def test_tuned_equals_reference(problem, dtype):
    x_shape, w_shape, arguments = problem
    x, w = normal(x_shape, dtype, 0), normal(w_shape, dtype, 1)
    b = normal((w_shape[1] * arguments["groups"],), dtype, 2)
    tuned = passes(x, w, b, arguments)
    with nbprop.using("reference"):
        expected = passes(x, w, b, arguments)
    for ours, wanted in zip(tuned, expected):
        assert_close(ours, wanted, 4 * TOLERANCE[np.dtype(dtype)])


def test_reference_equals_central_differences():
    arguments = {"stride": (2, 3), "padding": (1, 0), "output_padding": (1, 0), "groups": 2, "dilation": (1, 2)}
    x, w, b = normal((2, 4, 3, 2), seed=0), normal((4, 3, 3, 2), seed=1), normal((6,), seed=2)
    with nbprop.using("reference"):
        y = forward(x, w, b, **arguments)
        dy = normal(y.shape, seed=3)
        _, dx, dw, db = passes(x, w, b, arguments, dy)
        assert_close(dx, numeric_gradient(lambda v: forward(v, w, b, **arguments), x, dy), 1e-7)
        assert_close(dw, numeric_gradient(lambda v: forward(x, v, b, **arguments), w, dy), 1e-7)
        assert_close(db, numeric_gradient(lambda v: forward(x, w, v, **arguments), b, dy), 1e-7)


def test_it_is_the_adjoint_of_the_convolution_at_full_size():
    x, w, y = normal((8, 128, 14, 14), seed=0), normal((128, 64, 4, 4), seed=1), normal((8, 64, 28, 28), seed=2)
    spread = forward(x, w, stride=2, padding=1)
    gathered = conv2d_forward(y, w, stride=2, padding=1)
    assert np.vdot(spread, y) == pytest.approx(np.vdot(x, gathered), rel=1e-10)


def test_memory_order_does_not_matter_and_inputs_are_left_alone():
    x, w, b = normal((2, 4, 5, 3), seed=0), normal((4, 3, 3, 2), seed=1), normal((3,), seed=2)
    expected = forward(x, w, b, stride=2)
    for name, other in memory_orders(x):
        kept = other.copy()
        np.testing.assert_array_equal(forward(other, w, b, stride=2), expected, err_msg=name)
        np.testing.assert_array_equal(other, kept)
    for name, other in memory_orders(w):
        np.testing.assert_array_equal(forward(x, other, b, stride=2), expected, err_msg=name)


@needs_torch
@settings(max_examples=25, deadline=None)
@given(problems())
def test_torch_agrees(problem):
    import torch

    x_shape, w_shape, arguments = problem
    x, w = normal(x_shape, seed=0), normal(w_shape, seed=1)
    b = normal((w_shape[1] * arguments["groups"],), seed=2)
    tx, tw, tb = (torch.tensor(np.ascontiguousarray(a), requires_grad=True) for a in (x, w, b))
    ty = torch.nn.functional.conv_transpose2d(tx, tw, tb, **arguments)
    dy = normal(tuple(ty.shape), seed=3)
    ty.backward(torch.tensor(np.ascontiguousarray(dy)))
    for ours, theirs in zip(passes(x, w, b, arguments, dy), (ty.detach(), tx.grad, tw.grad, tb.grad)):
        assert_close(ours, theirs.numpy(), 1e-9)


def test_layer_learns_through_both_passes():
    nbprop.manual_seed(0)
    layer = nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2, dtype=np.float64)
    x = normal((2, 4, 5, 3), seed=0)
    y = layer(x)
    dy = normal(y.shape, seed=1)
    dx = layer.backward(dy)
    arguments = {"stride": 2, "padding": 1, "output_padding": 1, "groups": 2}
    expected = passes(x, layer.weight.data, layer.bias.data, arguments, dy)
    for ours, wanted in zip((y, dx, layer.weight.grad, layer.bias.grad), expected):
        np.testing.assert_array_equal(ours, wanted)


@pytest.mark.parametrize("images", [2, 90])
@pytest.mark.parametrize("channels", [1, 3, 16])
def test_pixels_that_no_tap_meets(channels, images):
    """They hold the bias, or its positive part; in an input gradient zeros, whatever ReLU is in front."""
    nbprop.manual_seed(0)
    layer = nn.ConvTranspose2d(5, channels, (1, 2), (2, 3), dtype=np.float32)
    layer.bias.data[...] = np.linspace(-1, 1, channels)
    layer.bias.data[-1] = np.nan if channels == 3 else 1
    x, dy = normal((images, 5, 7, 6), np.float32), normal((images, 5, 7, 6), np.float32, 1)
    back = nn.Conv2d(channels, 5, 1, 2)
    read = normal((images, channels, 13, 11), np.float32, 2)
    results = []
    for backend in "cpu", "reference":
        with nbprop.using(backend):
            results.append([layer.forward(x).copy(), layer.forward(x, relu=True).copy()])
            for relu in False, True:
                back.forward(read)
                results[-1].append(back.backward(dy, relu_in_front=relu).copy())
    for found, expected in zip(*results):
        assert_close(found, expected, 1e-6)
    assert not results[0][2][:, :, 1::2].any()
    assert not results[0][2][..., 1::2].any()


@pytest.mark.parametrize("change, message", [
    ({"x": (2, 5, 3, 4)}, r"x has 5 channels .* expected 4, the first axis of w; it looks like NHWC"),
    ({"output_padding": 2}, r"output_padding is \(2, 2\); expected less than stride"),
    ({"padding": 9}, r"x has a map of 5 x 3, which gives an output of"),
    ({"groups": 3}, r"groups is 3 and x has 4 channels"),
    ({"stride": 0}, r"stride is 0; expected an integer of at least 1"),
])  # fmt: skip
def test_bad_input(change, message):
    x = normal(change.pop("x", (2, 4, 5, 3)))
    with pytest.raises(ValueError, match=message):
        forward(x, normal((4, 3, 3, 3)), **{"stride": 2, **change})


def test_empty_batch():
    x, w = normal((0, 4, 5, 3)), normal((4, 3, 3, 3))
    y, dx, dw, db = passes(x, w, None, {"stride": 2})
    assert y.shape == (0, 3, 11, 7) and dx.shape == x.shape and not dw.any() and not db.any()


def test_layer_follows_its_bias():
    """A pass is settled once: what stands in the parameters changes with each step."""
    layer, x = nn.ConvTranspose2d(16, 6, 5), normal((32, 16, 10, 10), np.float32)
    before = layer(x)
    layer.bias.data += 1
    np.testing.assert_allclose(layer(x), before + 1, atol=1e-5)
