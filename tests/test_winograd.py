"""Winograd's algorithm by force, on shapes that the chooser would never give it: against the direct kernel."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import assert_close, assert_same_bits, dtypes, normal

import nbprop
from nbprop import scratch
from nbprop.ops import simd
from nbprop.ops.conv import choose, conv2d_backward_input, conv2d_backward_weight, conv2d_forward, cpu, fast
from nbprop.ops.conv_transpose import conv_transpose2d_forward
from nbprop.shapes import conv2d

# Relative l2 error that F(4 x 4, 3 x 3) may add; measured 4.0e-6 at 512 channels in float32, growing with channels.
BOUND = {np.dtype(np.float32): 5e-6, np.dtype(np.float64): 1e-14}


def passes(x, w, b, dy, padding, dilation=1, stride=1):
    rest = {"padding": padding, "dilation": dilation, "stride": stride}
    return (conv2d_forward(x, w, b, **rest), conv2d_backward_input(dy, w, x.shape, **rest),
            *conv2d_backward_weight(dy, x, w.shape, **rest))  # fmt: skip


def problem(n, c, h, w, o, padding, dtype, dilation=1, kernel=(3, 3), stride=1):
    x, weights, b = normal((n, c, h, w), dtype, 0), normal((o, c, *kernel), dtype, 1), normal((o,), dtype, 2)
    g = conv2d(x.shape, weights.shape, stride, padding, dilation)
    assert fast.taps(g) or not n
    return x, weights, b, normal((n, o, g.OH, g.OW), dtype, 3), padding, dilation, stride


@pytest.fixture(params=["blocked", "own weights", "staged"])
def small_blocks(request, monkeypatch):
    """Cut even tiny problems into several blocks or stages."""
    monkeypatch.setattr(fast, "_BLOCK", 1)
    monkeypatch.setattr(fast, "_STAGE", 1)
    monkeypatch.setattr(fast, "_WEIGHTS", 0 if request.param == "staged" else 1 << 40)
    monkeypatch.setattr(fast, "_SUMS", 1)
    monkeypatch.setattr(fast, "_CHUNK_BLOCK", 1 if request.param == "staged" else 1 << 14)
    monkeypatch.setattr(fast, "_CHUNKS", ((4, 1), (16, 2)))
    monkeypatch.setattr(fast, "_RUN", 3)
    monkeypatch.setattr(scratch, "_own", scratch._Own())  # where nothing cut otherwise is kept
    monkeypatch.setattr(fast, "_FEW", 0)  # the weights are transformed for all, or by each for itself
    monkeypatch.setattr(fast, "_OWN", 1 if request.param == "own weights" else 1 << 40)
    fast.passes.cache_clear()
    yield
    fast.passes.cache_clear()


def assert_as_direct(*made):
    """All passes by force against the direct kernel."""
    dy = made[3]
    bound = BOUND[dy.dtype]
    with nbprop.exact_convolution():
        *expected, wanted = passes(*made)
    with choose.using_winograd(True):
        *found, db = passes(*made)
    for ours, direct in zip(found, expected):
        assert_close(ours, direct, bound)
    # What is rounded is the size of what is summed up, of which a single channel may leave next to nothing.
    assert db.shape == wanted.shape
    assert (np.abs(db - wanted) <= bound * np.sqrt((dy**2).sum((0, 2, 3)))).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("vectors", [1, 2, 3, 5, 7])
def test_sixteen_channels_and_some_vectors_as_reference(vectors, dtype):
    """Tiles of a single vector serve one, whose weights stay in registers, and on 32 registers five and seven."""
    assert_as_direct(*problem(2, 16, 9, 9, vectors * simd.lanes(np.dtype(dtype)) - 1, (1, 1), dtype))


@settings(max_examples=12, deadline=None)
@given(st.integers(1, 3), st.integers(1, 20), st.integers(3, 13), st.integers(3, 13), st.integers(1, 20),
       st.tuples(st.integers(0, 2), st.integers(0, 2)), dtypes)  # fmt: skip
def check_all_shapes(n, c, h, w, o, padding, dtype):
    made = problem(n, c, h, w, o, padding, dtype)
    assert_as_direct(*made)


@settings(max_examples=12, deadline=None)
@given(st.integers(1, 2), st.integers(1, 20), st.tuples(st.integers(0, 12), st.integers(0, 12)), st.integers(1, 20),
       st.tuples(st.integers(0, 6), st.integers(0, 6)), st.sampled_from([(2, 2), (3, 1), (1, 2), (3, 4)]), dtypes)
def check_all_dilations(n, c, more, o, padding, dilation, dtype):
    padding = tuple(min(p, 2 * d) for p, d in zip(padding, dilation))
    h, w = (max(2 * d + 1 - 2 * p, 1) + extra for d, p, extra in zip(dilation, padding, more))
    made = problem(n, c, h, w, o, padding, dtype, dilation)
    assert_as_direct(*made)


@settings(max_examples=12, deadline=None)
@given(st.integers(1, 2), st.integers(1, 20), st.tuples(st.integers(0, 12), st.integers(0, 12)), st.integers(1, 20),
       st.tuples(st.integers(0, 5), st.integers(0, 5)),
       st.sampled_from([(2, 1, 1), (2, 2, 2), (2, 2, 1), (3, 1, 2), (3, 2, 2)]), dtypes)  # fmt: skip
def check_all_strides(n, c, more, o, padding, taps_and_stride, dtype):
    taps, *stride = taps_and_stride
    kernel = [taps * s for s in stride]
    padding = tuple(min(p, k - 1) for p, k in zip(padding, kernel))
    h, w = (max(k - 2 * p, 1) + extra for k, p, extra in zip(kernel, padding, more))
    made = problem(n, c, h, w, o, padding, dtype, 1, kernel, tuple(stride))
    assert_as_direct(*made)


@pytest.mark.parametrize("check", [check_all_shapes, check_all_dilations, check_all_strides], ids=lambda c: c.__name__)
def test_in_one_block(check):
    check()


@pytest.mark.parametrize("check", [check_all_shapes, check_all_dilations, check_all_strides], ids=lambda c: c.__name__)
def test_in_many_blocks(check, small_blocks):
    check()


@pytest.mark.parametrize(("channels", "size", "stride"), [(512, 3, 1), (128, 6, 2), (256, 2, 1), (64, 4, 2)])
def test_error_of_long_sums(channels, size, stride):
    """At 512 channels, and at the longest sums of stride phases and of two taps that the chooser takes."""
    made = problem(1, channels, 14, 14, 64, 1, np.float32, 1, (size, size), stride)
    with choose.using_winograd(True):
        tuned = passes(*made)
    doubled = [a.astype(np.float64) if isinstance(a, np.ndarray) else a for a in made]
    with nbprop.exact_convolution():
        for ours, wanted in zip(tuned, passes(*doubled)):
            assert_close(ours, wanted, 5e-6)


def test_the_chooser_takes_it_where_it_pays_and_exact_convolution_does_not():
    g = conv2d((64, 32, 16, 16), (64, 32, 3, 3), 1, 1)
    assert choose.winograd_tile("forward", g) == 4
    assert choose.winograd_tile("forward", conv2d((64, 32, 16, 16), (64, 32, 3, 3), 2, 1)) == 0
    assert choose.winograd_tile("weight", conv2d((64, 3, 32, 32), (32, 3, 3, 3), 1, 1)) == 0
    of_batch = {n: conv2d((n, 16, 32, 32), (16, 16, 3, 3), 1, 1) for n in (1, 2)}  # 5 and 9 million operations
    assert [choose.winograd_tile(kind, of_batch[2]) for kind in ("forward", "input", "weight")] == [4, 4, 4]
    assert choose.winograd_tile("forward", of_batch[1]) == 0
    assert choose.winograd_tile("forward", conv2d((8, 64, 8, 8), (64, 64, 3, 3), 1, 1)) == 4
    assert choose.winograd_tile("forward", conv2d((32, 64, 3, 3), (128, 64, 3, 3), 1, 1)) == 0  # tiles half empty
    assert choose.winograd_tile("forward", conv2d((64, 32, 8, 8), (32, 32, 3, 3), 1, 1)) == 0  # the digits'
    assert choose.winograd_tile("forward", conv2d((4, 32, 32, 32), (32, 32, 2, 2), 1, 0)) == 0  # two taps save less
    by_phases = conv2d((8, 64, 28, 28), (128, 64, 4, 4), 2, 1)
    assert [choose.winograd_tile(kind, by_phases) for kind in ("forward", "input", "weight")] == [5, 5, 5]
    assert choose.winograd_tile("input", conv2d((16, 32, 32, 32), (64, 32, 4, 4), 2, 1)) == 0  # few to sum over
    assert choose.winograd_tile("forward", conv2d((8, 256, 28, 28), (128, 256, 4, 4), 2, 1)) == 0  # a sum too long
    with nbprop.exact_convolution():
        assert choose.winograd_tile("forward", g) == 0


def test_a_layer_keeps_to_the_direct_kernel_on_request():
    nbprop.manual_seed(0)
    layer, x = nbprop.nn.Conv2d(32, 32, 3, padding=1), normal((32, 32, 16, 16), np.float32)
    fast_y = layer(x)
    with nbprop.exact_convolution():
        exact_y = layer(x)
        np.testing.assert_array_equal(exact_y, conv2d_forward(x, layer.weight.data, layer.bias.data, padding=1))
    assert not np.array_equal(fast_y, exact_y)
    assert_close(fast_y, exact_y, 5e-6)


def test_a_layer_that_was_exact_is_fast_again():
    nbprop.manual_seed(0)
    layer, x = nbprop.nn.Conv2d(32, 32, 3, padding=1), normal((32, 32, 16, 16), np.float32)
    with nbprop.exact_convolution():
        exact_y = layer(x)
        exact_dx = np.copy(layer.backward(x))
    assert_close(layer(x), exact_y, 5e-6)
    assert_close(layer.backward(x), exact_dx, 5e-6)


def test_empty_batch_by_force():
    with choose.using_winograd(True):
        for a in passes(*problem(0, 3, 8, 8, 4, 1, np.float32)):
            assert not a.any()


def test_fused_relu_and_nan():
    x, w, b, _, padding, *_ = problem(2, 16, 9, 9, 20, 1, np.float32)
    x[1, 3, 4, 4] = np.nan
    g = conv2d(x.shape, w.shape, 1, padding)
    y = np.empty_like(normal((2, 20, 9, 9), np.float32))
    with choose.using_winograd(True):
        plain = conv2d_forward(x, w, b, padding=padding)
        from nbprop import layout

        y = layout.empty(plain.shape, plain.dtype)
        cpu.forward(x, layout.khwio_last(w), b, y, g, True, cpu.workspace(g, x.dtype))
    np.testing.assert_array_equal(y, np.where(plain < 0, 0, plain))
    assert np.isnan(y[1]).any() and not np.isnan(y[0]).any()


def test_transposed_convolution_with_bias_and_relu():
    x, w, b = normal((2, 20, 7, 9), np.float32, 0), normal((20, 33, 4, 4), np.float32, 1), normal((33,), np.float32, 2)
    layer = nbprop.nn.Sequential(nbprop.nn.ConvTranspose2d(20, 33, 4, 2, 1), nbprop.nn.ReLU())
    layer[0].weight.data[:], layer[0].bias.data[:] = w, b
    with nbprop.exact_convolution():
        expected = conv_transpose2d_forward(x, w, b, 2, 1)
    with choose.using_winograd(True):
        assert_close(conv_transpose2d_forward(x, w, b, 2, 1), expected, 5e-6)
        assert_close(layer(x), np.maximum(expected, 0), 5e-6)


def test_same_bits_for_any_number_of_threads():
    assert_same_bits("""
import sys
sys.path.insert(0, "tests")
from oracle import normal
from nbprop.ops.conv import choose, conv2d_backward_input, conv2d_backward_weight, conv2d_forward
x, w, dy = normal((7, 33, 13, 14), "f4", 0), normal((40, 33, 3, 3), "f4", 1), normal((7, 40, 13, 14), "f4", 2)
def passes(x, w, dy, **rest):
    return (conv2d_forward(x, w, **rest), conv2d_backward_input(dy, w, x.shape, **rest),
            *conv2d_backward_weight(dy, x, w.shape, **rest))
wide, strided = normal((7, 33, 26, 28), "f4", 3), normal((40, 33, 4, 4), "f4", 4)
def run():
    with choose.using_winograd(True):
        return *passes(x, w, dy, padding=1), *passes(wide, strided, dy, padding=1, stride=2)
""")


def test_a_layer_made_on_one_thread_runs_on_more():
    import numba

    before = numba.get_num_threads()
    nbprop.manual_seed(0)
    layer, x = nbprop.nn.Conv2d(16, 48, 3, padding=1), normal((16, 16, 28, 28), np.float32)
    try:
        numba.set_num_threads(1)
        y = layer(x)
        dx = layer.backward(y).copy()
        numba.set_num_threads(before)
        np.testing.assert_array_equal(layer(x), y)
        np.testing.assert_array_equal(layer.backward(y), dx)
        with choose.using_winograd(True):  # however little there is to do
            x = x[:1, :, :10, :10]
            numba.set_num_threads(1)
            y = layer(x)
            numba.set_num_threads(before)
            np.testing.assert_array_equal(layer(x), y)
    finally:
        numba.set_num_threads(before)
