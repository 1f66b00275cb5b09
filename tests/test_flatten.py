"""Flatten: rows in the order of torch, whatever the memory."""

import numpy as np
import pytest
from oracle import memory_orders, normal

from nbprop import layout, nn

SHAPES = [(3, 5, 4, 7), (2, 1, 3, 4), (4, 6, 1, 1), (1, 2, 2, 1), (1, 1, 1, 1), (0, 3, 4, 4), (0, 3, 1, 1),
          (3, 8)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES)
def test_rows_are_in_channel_row_column_order(shape, dtype):
    x = normal(shape, dtype)
    layer = nn.Flatten()
    expected = np.ascontiguousarray(x).reshape(shape[0], int(np.prod(shape[1:])))
    for name, v in memory_orders(x):
        y = layer(v)
        np.testing.assert_array_equal(y, expected, err_msg=name)
        assert y.dtype == dtype
    assert layer.forward(x).flags.c_contiguous
    dy = normal(expected.shape, dtype, 1)
    for name, v in memory_orders(dy):
        dx = layer.backward(v)
        np.testing.assert_array_equal(dx, dy.reshape(shape), err_msg=name)
        assert layout.channels_last(dx) is dx, "the layer before reads it in place"
    assert layer.backward(dy, input_gradient=False) is None


def test_no_copy_where_the_orders_agree():
    layer = nn.Flatten()
    for shape in [(4, 6, 1, 1), (2, 1, 3, 4), (3, 8)]:
        x = normal(shape)
        y = layer.forward(x)
        assert np.shares_memory(y, x)
        assert np.shares_memory(layer.backward(y), y)


def test_buffers_are_kept_and_results_are_not():
    layer, x = nn.Flatten(), normal((2, 3, 4, 5))
    y = layer(x)
    kept = y.copy()
    assert layer.forward(-x) is layer.forward(x)
    layer(-x)
    np.testing.assert_array_equal(y, kept)


def test_arguments():
    x = normal((2, 3, 4, 5))
    np.testing.assert_array_equal(nn.Flatten(1, 3)(x), nn.Flatten()(x))
    for kwargs, message in [({"start_dim": 0}, "start_dim is 0; expected 1"),
                            ({"end_dim": 0}, "end_dim is 0; expected -1"),
                            ({"end_dim": -2}, "end_dim is -2; expected -1")]:
        with pytest.raises(ValueError, match=message):
            nn.Flatten(**kwargs)
    with pytest.raises(ValueError, match=r"end_dim is 2 and x has shape \(2, 3, 4, 5\); expected -1 or 3"):
        nn.Flatten(1, 2)(x)
    with pytest.raises(ValueError, match=r"x has shape \(2, 3, 4\); expected \(N, features\) or"):
        nn.Flatten()(x[..., 0])
    layer = nn.Flatten()
    layer(x)
    with pytest.raises(ValueError, match=r"dy has shape \(2, 3, 4, 5\); expected \(2, 60\)"):
        layer.backward(x)
