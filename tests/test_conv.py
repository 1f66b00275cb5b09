"""Convolution: plain loops against central differences, the tuned kernels against them and against torch."""

import gc
import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import assert_close, assert_same_bits, cut, dtypes, memory_orders, needs_torch, normal, numeric_gradient

import nbprop
from nbprop import layout, nn, shapes
from nbprop.bench import suite
from nbprop.ops import correlate, dense, outer, simd
from nbprop.ops.conv import choose, cpu, fast, plan, reference, spread, wide
from nbprop.ops.conv import conv2d_backward_input as backward_input
from nbprop.ops.conv import conv2d_backward_weight as backward_weight
from nbprop.ops.conv import conv2d_forward as forward

# Each tile size is compiled anew, so few counts: 3 and 17 leave lanes idle in one vector and in several.
channels = st.sampled_from([1, 3, 17])


@st.composite
def problems(draw):
    """Shapes of x and w and arguments that fit together."""
    stride, padding, dilation, kernel, size = [], [], [], [], []
    for _ in range(2):
        k, s, p, d = (draw(st.integers(*bounds)) for bounds in ((1, 4), (1, 5), (0, 3), (1, 3)))
        kernel.append(k)
        stride.append(s)
        padding.append(p)
        dilation.append(d)
        size.append(draw(st.integers(max(1, d * (k - 1) + 1 - 2 * p), 13)))
    kind = draw(st.sampled_from(["dense", "dense", "grouped", "depthwise", "multiplied"]))
    if kind == "dense":
        groups, C, O = 1, draw(channels), draw(channels)
    elif kind == "grouped":
        groups = draw(st.integers(2, 3))
        C, O = 3 * groups, draw(channels) * groups
    else:
        C = groups = 17
        O = C if kind == "depthwise" else 3 * C
    arguments = {"stride": tuple(stride), "padding": tuple(padding), "dilation": tuple(dilation)}
    arguments["groups"] = groups
    return (draw(st.integers(1, 4)), C, *size), (O, C // groups, *kernel), arguments


def passes(x, w, b, arguments, dy=None):
    """All that a convolution computes: y, dx, dw, db."""
    y = forward(x, w, b, **arguments)
    dy = normal(y.shape, y.dtype, 3) if dy is None else dy
    return y, backward_input(dy, w, x.shape, **arguments), *backward_weight(dy, x, w.shape, **arguments)


def operands(x_shape, w_shape, dtype=np.float64):
    return normal(x_shape, dtype, 0), normal(w_shape, dtype, 1), normal(w_shape[:1], dtype, 2)


def by_reference(x, w, b, dy, arguments):
    """What the plain loops compute."""
    g = shapes.conv2d(x.shape, w.shape, **arguments)
    y, dx, dw, db = (np.empty_like(a) for a in (dy, x, w, w[:, 0, 0, 0]))
    reference.forward(x, w, b, y, g, False, None)
    reference.backward_input(dy, w, None, dx, g, None)
    reference.backward_weight(dy, x, dw, db, g, None)
    return y, dx, dw, db


def check(x_shape, w_shape, arguments, dtype):
    """Hold every number of the tuned passes to a few roundings of the terms it sums."""
    x, w, b = operands(x_shape, w_shape, dtype)
    tuned = passes(x, w, b, arguments)
    dy = normal(tuned[0].shape, dtype, 3)
    expected = by_reference(x, w, b, dy, arguments)
    terms = by_reference(*map(np.abs, (x, w, b, dy)), arguments)
    for name, ours, wanted, size in zip(("y", "dx", "dw", "db"), tuned, expected, terms):
        assert ours.dtype == dtype, name
        assert (np.abs(ours - wanted) <= 8 * np.finfo(dtype).eps * size).all(), name


# The derivation


@pytest.mark.parametrize("w_shape, arguments", [
    ((2, 4, 3, 2), {}),
    ((3, 4, 3, 2), {"stride": (2, 3), "padding": (1, 0), "dilation": (1, 2)}),
    ((6, 2, 2, 3), {"padding": (2, 1), "groups": 2, "stride": 2}),
    ((4, 1, 3, 3), {"padding": "same", "groups": 4}),
], ids=str)
def test_reference_gradient(w_shape, arguments):
    x, w, b = operands((2, 4, 6, 5), w_shape)
    with nbprop.using("reference"):
        dy = normal(forward(x, w, b, **arguments).shape, seed=3)
        _, dx, dw, db = passes(x, w, b, arguments, dy)
        assert_close(dx, numeric_gradient(lambda v: forward(v, w, b, **arguments), x, dy), 1e-7)
        assert_close(dw, numeric_gradient(lambda v: forward(x, v, b, **arguments), w, dy), 1e-7)
        assert_close(db, numeric_gradient(lambda v: forward(x, w, v, **arguments), b, dy), 1e-7)


def test_by_hand():
    x = np.arange(12, dtype=np.float64).reshape(1, 1, 3, 4)
    w = np.array([[[[1.0, 10.0], [100.0, 1000.0]]]])
    y = forward(x, w, np.array([0.5]), stride=(2, 1), padding=(1, 0))
    np.testing.assert_array_equal(y, [[[[1000.5, 2100.5, 3200.5], [9854.5, 10965.5, 12076.5]]]])


# Tuned against the reference


@settings(max_examples=20)
@given(problems(), dtypes)
def test_tuned_as_reference(problem, dtype):
    check(*problem, dtype)


cuts = st.fixed_dictionaries({
    "dense._BLOCK": st.sampled_from([1, 600, 5000, 192 * 1024]),
    "outer._BLOCK": st.sampled_from([1, 600, 5000, 192 * 1024]),
    "outer._FIRST": st.sampled_from([1, 2000, 32 * 1024]),
    "outer._FITTING": st.sampled_from([0, 10_000_000]),
    "dense._SHARES": st.sampled_from([1, 3, 16]),
    "dense._ROWS": st.sampled_from([1, 2, 4]),
    "dense._LARGE_WEIGHTS": st.sampled_from([1, 1 << 20]),
    "dense._LARGE_WEIGHTS_PIXELS": st.sampled_from([1, 40, 800]),
    "dense._LARGE_WEIGHTS_BLOCK": st.sampled_from([1, 4000, 1600 * 1024]),
    "dense._SERIAL": st.sampled_from([1, 2_000_000]),
    "correlate._PANEL": st.sampled_from([1, 1000, 256 * 1024]),
    "correlate._IN_PLACE": st.sampled_from([0, 16, 1 << 40]),
    "correlate._UNITS": st.sampled_from([1, 4]),
    "correlate._FAR": st.sampled_from([0, 1 << 40]),
    "correlate._LANEWISE_ITEMS": st.sampled_from([1, 16]),
    "correlate._LANEWISE_ROWS": st.sampled_from([1, 4]),
    "wide._OPERATIONS": st.sampled_from([0, 1 << 40]),
    "spread._OPERATIONS": st.sampled_from([0, 1 << 40]),
    "spread._FILLED": st.sampled_from([0, 0.75]),
    "outer._CHUNKS": st.sampled_from([1, 3, 32]),
    "outer._ITEMS": st.sampled_from([1, 4]),
    "outer._PANELS": st.sampled_from([1, 8]),
    "outer._PIXELS": st.sampled_from([1, 10, 256]),
    "outer._PARTIALS": st.sampled_from([1, 1 << 21]),
    "lanewise_outer._CHUNKS": st.sampled_from([1, 3, 32]),
    "lanewise_outer._ITEMS": st.sampled_from([1, 4]),
    "lanewise_outer._PIXELS": st.sampled_from([1, 256]),
    "lanewise_outer._ROWS": st.sampled_from([1, 4]),
})  # fmt: skip


@settings(max_examples=30)
@given(problems(), cuts)
def test_tuned_as_reference_however_it_is_cut(problem, constants):
    """Bands, images left over, slices of a panel, chunks: edges that only large arrays meet otherwise."""
    with cut(constants):
        check(*problem, np.float32)


@settings(max_examples=15)
@given(problems(), cuts)
def test_relu_in_the_epilogue_however_it_is_cut(problem, constants):
    """The positive part is taken of whole sums, not of the slices they are made of."""
    x_shape, w_shape, arguments = problem
    x, w, b = operands(x_shape, w_shape, np.float32)
    y = forward(x, w, b, **arguments)
    fused = np.empty_like(y)
    g = shapes.conv2d(x_shape, w_shape, **arguments)
    with cut({**constants, "correlate._PANEL": 1}):
        cpu.forward(x, layout.khwio_last(w), b, fused, g, True, cpu.workspace(g, x.dtype))
    np.testing.assert_allclose(fused, np.maximum(y, 0), atol=1e-4)


def plans(x_shape, w_shape, arguments, dtype):
    p = plan.forward(shapes.conv2d(x_shape, w_shape, **arguments))
    return correlate.plan(p, np.dtype(dtype), 1), outer.plan(p, np.dtype(dtype))


def test_cuts_reach_the_edges():
    """The cuts above do what they are for; each one alone, against the reference too."""
    x_shape, w_shape, arguments = (5, 37, 9, 8), (17, 37, 3, 3), {"padding": 1}
    constants = {"dense._SERIAL": 1, "dense._SHARES": 1, "dense._ROWS": 1, "outer._PIXELS": 1}
    with cut({**constants, "dense._BLOCK": 37 * 8 * 4 * 5, "outer._FIRST": 6000, "correlate._PANEL": 100}):
        (p, _, _, _, khb, runb), weight = plans(x_shape, w_shape, arguments, np.float32)
        assert (p.RB, p.NB, khb) == (3, 1, 1)  # five rows of x: bands of three
        assert 0 < runb < 3 * 37  # slices within a run of (kw, c)
        assert 1 < weight.p.RB < 9 and weight.p.NB == 1
        assert weight.chunks in (8, 16)  # a power of two, of 15 or 25 blocks: wider panels have fewer pixels
        check(x_shape, w_shape, arguments, np.float32)
    three = 3 * 72 * 512  # pixels, and more bytes than a panel's and its lines take
    with cut({**constants, "dense._BLOCK": 37 * 72 * 4 * 3, "outer._FIRST": three, "outer._BLOCK": 1 << 20}):
        (p, *_), weight = plans(x_shape, w_shape, arguments, np.float32)
        assert (p.RB, p.NB) == (9, 3)  # two blocks, of three and of two images
        assert weight.p.RB == 9 and weight.p.NB >= 3
        check(x_shape, w_shape, arguments, np.float32)


@pytest.mark.parametrize("x_shape, w_shape, arguments, dtype", [
    ((1, 1, 1, 1), (1, 1, 1, 1), {}, np.float32),
    ((3, 67, 7, 5), (131, 67, 1, 1), {}, np.float32),  # several panels, the last one narrow
    ((1, 3, 19, 23), (33, 3, 7, 7), {"stride": 2, "padding": 3}, np.float32),  # a first layer
    ((2, 2, 5, 31), (3, 2, 1, 9), {"padding": (0, 4)}, np.float32),
    ((1, 2, 4, 4), (3, 2, 3, 3), {"padding": 6, "dilation": 2}, np.float64),  # most windows see nothing of x
    ((2, 3, 11, 13), (4, 3, 2, 2), {"stride": (7, 5)}, np.float32),  # rows and columns that no window reads
    ((2, 3, 10, 9), (4, 3, 3, 3), {"stride": (4, 6), "dilation": (2, 3), "padding": 2}, np.float32),  # no tap
    ((2, 65, 6, 7), (65, 1, 3, 3), {"padding": 1, "groups": 65}, np.float32),
    ((5, 65, 31, 29), (65, 1, 3, 3), {"padding": 1, "groups": 65}, np.float32),  # large enough to fetch ahead
    # Strips of columns: three of whole vectors, seven with one column left, and a kernel wider than a strip.
    ((2, 256, 5, 21), (256, 1, 3, 3), {"padding": 1, "groups": 256}, np.float32),
    ((1, 512, 7, 57), (512, 1, 3, 2), {"padding": (2, 1), "groups": 512}, np.float64),
    ((1, 512, 4, 19), (512, 1, 2, 7), {"padding": (0, 6), "groups": 512}, np.float32),
    ((2, 40, 6, 7), (80, 20, 3, 3), {"padding": 1, "groups": 2, "stride": 2}, np.float32),
    ((3, 96, 2, 2), (96, 96, 1, 1), {}, np.float32),  # whole panels for any number of lanes: read in place
    ((2, 6, 4, 4), (192, 3, 3, 3), {"groups": 2}, np.float32),
    # All groups' channels together as wide as one group's panel, of 16, 8, or 4 lanes.
    ((2, 6, 6, 7), (16, 3, 3, 3), {"groups": 2}, np.float32),
    ((2, 6, 6, 7), (8, 3, 3, 3), {"groups": 2}, np.float32),
    ((2, 6, 6, 7), (4, 3, 3, 3), {"groups": 2}, np.float32),
], ids=str)  # fmt: skip
def test_tuned_as_reference_in_odd_places(x_shape, w_shape, arguments, dtype):
    with cut({"outer._FITTING": 0}):  # tiles of as many rows as there are taps
        check(x_shape, w_shape, arguments, dtype)


@pytest.mark.parametrize("x_shape, w_shape, arguments, rows", [
    ((2, 6, 9, 11), (3, 6, 3, 5), {"padding": 1}, (10, 15)),  # a row of the kernel is a run: 5 x 6 taps
    ((2, 6, 9, 11), (3, 6, 3, 5), {"dilation": 2}, None),  # six
    ((2, 16, 7, 9), (3, 16, 3, 3), {"stride": 2}, (12, 24)),  # of 48: the pixels of a block have no gap between
    ((2, 32, 7, 9), (3, 32, 3, 3), {}, (8, 16)),  # they have
    ((2, 40, 7, 9), (3, 40, 3, 3), {"dilation": (1, 2)}, (10, 20)),  # a tap's channels alone
    ((2, 32, 7, 9), (6, 16, 3, 3), {"groups": 2}, (8, 16)),
], ids=str)  # fmt: skip
def test_neighbouring_taps_as_reference(x_shape, w_shape, arguments, rows):
    """In tiles of a single vector: of as many rows, with 16 and with 32 registers."""
    with cut({"outer._FITTING": 0}):
        weight = plans(x_shape, w_shape, arguments, np.float32)[1]
        assert weight.nv == 1 and weight.together == (rows is not None)
        assert rows is None or weight.mr == rows[simd.registers() == 32]
        check(x_shape, w_shape, arguments, np.float32)


@pytest.mark.parametrize("x_shape, w_shape, arguments, columns", [
    ((2, 1, 9, 28), (6, 1, 5, 5), {"padding": 2}, (2, 14)),
    ((2, 6, 9, 14), (16, 6, 5, 5), {}, (1, 2)),
    ((2, 3, 11, 28), (5, 3, 7, 7), {"stride": 2, "padding": 3}, (2, 4)),
    ((2, 3, 13, 24), (2, 3, 4, 5), {"stride": 3, "padding": (2, 1), "dilation": (2, 1)}, (8, 3)),
    ((1, 2, 5, 12), (3, 2, 1, 2), {"stride": 4}, (1, 1)),  # columns that no window reads
    ((2, 3, 8, 12), (5, 3, 3, 2), {"stride": (1, 3), "padding": (0, 2)}, (1, 1)),
    ((2, 3, 8, 13), (5, 3, 3, 2), {"stride": (1, 3), "padding": (0, 2)}, (1, 1)),
    ((2, 3, 7, 7), (5, 3, 1, 1), {"stride": 2, "padding": 1}, (1, 1)),
], ids=str)  # fmt: skip
def test_several_columns_side_by_side(x_shape, w_shape, arguments, columns):
    """Few channels: forward (of w's O) and input gradient (of C), each with the columns that should share a vector."""
    g = shapes.conv2d(x_shape, w_shape, **arguments)
    with cut({"wide._OPERATIONS": 0, "wide._GAIN": 1.0, "spread._FILLED": 2}):
        inputs = wide.phases(g, np.dtype(np.float32), False) or (None,)
        found = wide.forward(g, np.dtype(np.float32), False), inputs[0]
        if simd.vector_bytes() == 64:
            assert tuple(f.columns if f else 1 for f in found) == columns
        check(x_shape, w_shape, arguments, np.float32)
        check(x_shape, w_shape, arguments, np.float64)


@pytest.mark.parametrize("x_shape, w_shape, arguments, sets", [
    ((5, 6, 14, 14), (16, 6, 5, 5), {}, [5]),
    ((3, 2, 11, 12), (3, 2, 3, 2), {}, [11]),  # 11 columns: one at a time
    ((2, 3, 19, 23), (5, 3, 3, 3), {"stride": 2}, [11, 11]),  # the last row and column: no window reads them
    ((2, 5, 13, 33), (7, 5, 4, 3), {"padding": (2, 0), "stride": (3, 1), "dilation": (2, 1)}, [31, 31, 31]),
    ((3, 4, 9, 24), (2, 4, 2, 4), {"stride": (4, 5)}, [1, 1, 1, 1]),  # gaps between windows
    ((2, 6, 5, 5), (9, 6, 5, 5), {}, [1]),  # fewer columns than a window has
    ((2, 6, 7, 7), (9, 6, 5, 5), {}, [3]),
    ((2, 3, 8, 8), (5, 3, 3, 3), {"padding": 1}, []),
], ids=str)  # fmt: skip
def test_input_gradient_spread_from_columns(x_shape, w_shape, arguments, sets):
    """Few channels, no padding to the sides: each phase of the rows, with its sets of columns that go together."""
    g = shapes.conv2d(x_shape, w_shape, **arguments)
    with cut({"spread._OPERATIONS": 0, "spread._FILLED": 0, "dense._SERIAL": 1}):
        found = [each.sets for each in spread.phases(g, np.dtype(np.float32), False) or ()]
        assert found == (sets if g.C < simd.lanes(np.dtype(np.float32)) else [])
        check(x_shape, w_shape, arguments, np.float32)
        check(x_shape, w_shape, arguments, np.float64)


@pytest.mark.parametrize("x_shape, w_shape, arguments", [
    ((3, 21, 17, 19), (21, 21, 3, 3), {"padding": 1}),
    ((3, 21, 41, 43), (21, 21, 3, 3), {"stride": 2, "padding": 1}),
    ((4, 21, 35, 32), (21, 1, 2, 7), {"padding": (1, 3), "groups": 21}),
], ids=str)
def test_tuned_as_reference_on_threads(x_shape, w_shape, arguments):
    check(x_shape, w_shape, arguments, np.float32)


def test_same_bits_for_any_number_of_threads():
    assert_same_bits("""
from nbprop.ops.conv import conv2d_backward_input, conv2d_backward_weight, conv2d_forward
def passes(x_shape, w_shape, **arguments):
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal(x_shape, np.float32), rng.standard_normal(w_shape, np.float32)
    y = conv2d_forward(x, weight, **arguments)
    dx = conv2d_backward_input(y, weight, x.shape, **arguments)
    return y, dx, *conv2d_backward_weight(y, x, weight.shape, **arguments)
def run():
    return (*passes((3, 21, 17, 19), (21, 21, 3, 3), padding=1),
            *passes((3, 21, 41, 43), (21, 21, 3, 3), padding=1, stride=2),
            *passes((4, 21, 35, 32), (21, 1, 2, 7), padding=(1, 3), groups=21), *passes((19, 6, 14, 14), (16, 6, 5, 5)))
""")


@pytest.mark.parametrize("name", suite.conv_rows())
def test_sixteen_threads_find_equal_shares(name):
    """None waits long for the one with most items."""
    row, dtype = suite.conv_rows()[name], np.dtype(np.float32)
    geometry = shapes.conv_transpose2d if row.transposed else shapes.conv2d
    g = geometry(row.x_shape, row.w_shape, stride=row.S, padding=row.P, dilation=row.D, groups=row.G)
    for p in (plan.forward(g), *(p for p, _ in plan.phases(g))):
        panels = -(-p.OG // correlate.panel_width(p, dtype)) if not p.LANEWISE else 1
        items = dense.blocks(correlate.plan(p, dtype, 16)[0]) * p.G * panels
        assert items / (-(-items // 16) * 16) > 0.6, (items, p)
    if choose.winograd_tile("weight", g):
        p, = fast.passes("weight", g, choose.winograd_tile("weight", g), dtype, 16)
        slabs = -(-p.g.OP // p.slab)
        assert p.chunks * slabs >= 16 or slabs == p.g.OP // fast.panel(p, dtype)


# Memory, and who owns it


@pytest.mark.parametrize("x_shape, w_shape", [
    ((8, 32, 20, 20), (32, 32, 3, 3)), ((40, 6, 14, 14), (16, 6, 5, 5)), ((600, 3, 7, 7), (6, 3, 5, 5)),
    ((9, 40, 8, 8), (50, 40, 3, 3)),
], ids=["Winograd", "spread", "columns", "panels"])
def test_nothing_lives_on_after_a_call(x_shape, w_shape):
    """Arrays that only the garbage collector frees come from fresh pages at every call; what is kept holds none."""
    x, w, b = operands(x_shape, w_shape, np.float32)
    g, w = shapes.conv2d(x_shape, w_shape), layout.khwio_last(w)
    work = cpu.workspace.__wrapped__(g, x.dtype)
    y, dw = layout.empty((g.N, g.O, g.OH, g.OW), x.dtype), layout.empty_weights(w_shape, x.dtype)
    alive = [weakref.ref(a.base) for a in (w, dw, y)]  # which views refer to
    gc.disable()
    try:
        cpu.forward(x, w, b, y, g, False, work)
        cpu.backward_input(y, w, None, x, g, work)
        cpu.backward_weight(y, x, dw, b, g, work)
        del w, dw, y
        assert [ref() for ref in alive] == [None] * 3
        alive = weakref.ref(work)
        del work
        assert alive() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d])
def test_layer_follows_weights_in_another_memory_order(kind):
    layer, x = kind(6, 5, 3, dtype=np.float64), normal((2, 6, 7, 8))
    expected = layer(x), layer.backward(np.ones_like(layer(x))).copy()
    layer.weight.data = np.ascontiguousarray(layer.weight.data)
    np.testing.assert_allclose(layer(x), expected[0], rtol=1e-13)
    np.testing.assert_allclose(layer.backward(np.ones_like(expected[0])), expected[1], rtol=1e-13)


def test_memory_order_does_not_matter_and_inputs_are_left_alone():
    arguments = {"stride": (2, 1), "padding": 1}
    x, w, b = operands((2, 5, 7, 6), (17, 5, 3, 3), np.float32)
    dy = normal(forward(x, w, b, **arguments).shape, np.float32, 3)
    expected = passes(x, w, b, arguments, dy)
    for place, original in enumerate((x, w, b, dy)):
        for name, other in memory_orders(original):
            given_ = [x, w, b, dy]
            given_[place] = other
            kept = [a.copy() for a in given_]
            for ours, wanted in zip(passes(*given_[:3], arguments, given_[3]), expected):
                np.testing.assert_array_equal(ours, wanted, err_msg=name)
            for a, before in zip(given_, kept):
                np.testing.assert_array_equal(a, before, err_msg=name)


def test_outputs_have_the_memory_order_of_the_library():
    x, w, b = operands((2, 5, 7, 6), (3, 5, 3, 3))
    y, dx, dw, _ = passes(x, w, b, {})
    assert y.transpose(0, 2, 3, 1).flags.c_contiguous
    assert dx.transpose(0, 2, 3, 1).flags.c_contiguous
    assert dw.transpose(2, 3, 1, 0).flags.c_contiguous


@pytest.mark.parametrize("make", [
    lambda: nn.Conv2d(3, 4, 3, dtype=np.float64),
    lambda: nn.Sequential(nn.Conv2d(3, 4, 3, dtype=np.float64), nn.ReLU()),
])
def test_what_a_layer_returns_belongs_to_the_caller(make):
    layer = make()
    first = layer(normal((2, 3, 5, 6)))
    kept = first.copy()
    second = layer(normal((2, 3, 5, 6), seed=1))
    np.testing.assert_array_equal(first, kept)
    assert not np.array_equal(first, second)
    first[...] = 0  # theirs to write to
    np.testing.assert_array_equal(layer(normal((2, 3, 5, 6), seed=1)), second)


# Values that no test set has


@pytest.mark.parametrize("groups", [1, 2, 6])
def test_nan_reaches_what_it_meets_and_no_more(groups):
    x, w, b = operands((2, 6, 7, 8), (6, 6 // groups, 3, 3), np.float32)
    x[1, 4, 3, 5] = np.nan
    arguments = {"padding": 1, "groups": groups}
    y, dx, dw, db = passes(x, w, b, arguments)
    expected = np.zeros(y.shape, bool)
    mates = [o for o in range(6) if o // (6 // groups) == 4 // (6 // groups)]
    expected[1, mates, 2:5, 4:7] = True
    np.testing.assert_array_equal(np.isnan(y), expected)
    assert not np.isnan(dx).any() and not np.isnan(db).any()
    assert np.isnan(dw[mates, 4 % (6 // groups)]).all()
    assert np.isnan(dw).sum() == len(mates) * 9


def test_relu_behind_it_keeps_nan_and_infinity():
    layer = nn.Sequential(nn.Conv2d(1, 3, 1, bias=False), nn.ReLU())
    layer[0].weight.data[...] = np.array([1, -1, 2], np.float32).reshape(3, 1, 1, 1)
    x = np.array([np.nan, np.inf, -np.inf, -1], np.float32).reshape(1, 1, 2, 2)
    np.testing.assert_array_equal(
        layer(x).reshape(3, 4), [[np.nan, np.inf, 0, 0], [np.nan, 0, np.inf, 1], [np.nan, np.inf, 0, 0]])


@pytest.mark.parametrize("w_shape, arguments", [
    ((6, 4, 3, 3), {}), ((6, 4, 1, 1), {}), ((4, 1, 3, 3), {"groups": 4, "stride": 2})], ids=str)  # fmt: skip
def test_empty_batch(w_shape, arguments):
    x, w, b = operands((0, 4, 5, 6), w_shape)
    y, dx, dw, db = passes(x, w, b, arguments)
    assert y.shape == forward(normal((1, 4, 5, 6)), w, b, **arguments)[:0].shape
    assert dx.shape == x.shape
    assert dw.shape == w.shape and not dw.any()
    assert db.shape == b.shape and not db.any()
    layer = nn.Conv2d(4, w_shape[0], w_shape[2:], dtype=np.float64, **arguments)
    layer.weight.grad[...] = 7
    assert layer.backward(layer(x)).shape == x.shape
    assert not layer.weight.grad.any() and not layer.bias.grad.any()


# Bad input


X, W = (2, 4, 8, 6), (6, 4, 3, 3)


@pytest.mark.parametrize("x, w, arguments, message", [
    ((2, 8, 6, 4), W, {}, r"x has 8 channels \(shape \(2, 8, 6, 4\)\); expected 4, .* looks like NHWC: pass"),
    ((2, 5, 8, 6), W, {}, r"x has 5 channels .*; expected 4, which is groups=1 times the 4 .* of w$"),
    ((4, 8, 6), W, {}, r"x has shape \(4, 8, 6\); expected \(N, C, H, W\)"),
    (X, W[1:], {}, r"w has shape \(4, 3, 3\); expected"),
    ((2, 4, 2, 6), W, {}, r"x has height 2, padded to 2; expected at least the kernel's reach of 3"),
    (X, W, {"dilation": (1, 3)}, r"x has width 6, padded to 6; expected at least the kernel's reach of 7"),
    (X, (6, 4, 0, 3), {}, r"w has a kernel of 0 x 3; expected at least 1 x 1"),
    (X, W, {"stride": 0}, r"stride is 0; expected an integer of at least 1"),
    (X, W, {"stride": (1, 2, 3)}, r"stride is \(1, 2, 3\); expected an integer or a pair"),
    (X, W, {"stride": 1.5}, r"stride is 1.5; expected an integer"),
    (X, W, {"stride": True}, r"stride is True; expected an integer"),
    (X, W, {"dilation": (1, 0)}, r"dilation is 0; expected an integer of at least 1"),
    (X, W, {"padding": -1}, r"padding is -1; expected an integer of at least 0"),
    (X, W, {"padding": "full"}, r"padding is 'full'; expected an integer, a pair, \"valid\" or \"same\""),
    (X, W, {"padding": "same", "stride": 2}, r'"same" needs stride 1'),
    (X, (6, 4, 2, 3), {"padding": "same"}, r"the kernel is \(2, 3\); an even kernel .* pad the input first"),
    (X, W, {"groups": 4}, r"groups is 4 and w has 6 output channels; expected groups to divide them"),
    (X, W, {"groups": 3}, r"x has 4 channels .*; expected 12, which is groups=3 times"),
    (X, W, {"groups": 0}, r"groups is 0; expected an integer of at least 1"),
])  # fmt: skip
def test_bad_shapes_and_arguments(x, w, arguments, message):
    with pytest.raises(ValueError, match=message):
        forward(normal(x), normal(w), **arguments)


@pytest.mark.parametrize("change, message", [
    ({"x": int}, r"x has dtype int64; expected float32 or float64: convert it with x.astype\(np.float32\)"),
    ({"w": bool}, r"w has dtype bool; expected float32 or float64"),
    ({"x": np.float16}, r"x has dtype float16"),
    ({"x": ">f8"}, r"x has dtype >f8"),
    ({"x": np.float32}, r"have different dtypes \(x float32, w float64, b float64\); expected one"),
    ({"b": np.float32}, r"have different dtypes \(x float64, w float64, b float32\)"),
    ({"b": np.complex64}, r"b has dtype complex64"),
])  # fmt: skip
def test_bad_dtypes(change, message):
    arrays = {"x": normal(X), "w": normal(W), "b": normal((6,))}
    arrays |= {name: arrays[name].astype(np.dtype(dtype)) for name, dtype in change.items()}
    with pytest.raises(ValueError, match=message):
        forward(**arrays)


def test_other_bad_input():
    x, w, b = operands(X, W)
    dy = forward(x, w)
    with pytest.raises(ValueError, match=r"b has shape \(5,\); expected \(6,\)"):
        forward(x, w, b[:5])
    with pytest.raises(ValueError, match=r"b has shape \(6, 1\); expected one axis"):
        forward(x, w, b[:, None])
    with pytest.raises(ValueError, match="x is a list; expected a NumPy array"):
        forward(x.tolist(), w)
    with pytest.raises(ValueError, match=r"dy has shape \(2, 5, 6, 4\); expected \(2, 6, 6, 4\)"):
        backward_input(dy[:, :5], w, x.shape)
    with pytest.raises(ValueError, match=r"dy has shape \(1, 6, 6, 4\); expected \(2, 6, 6, 4\)"):
        backward_weight(dy[:1], x, w.shape)
    with pytest.raises(ValueError, match="dy and x have different dtypes"):
        backward_weight(dy.astype(np.float32), x, w.shape)
    with pytest.raises(TypeError, match="unexpected keyword argument 'output_padding'"):
        forward(x, w, output_padding=1)


@pytest.mark.parametrize("arguments, message", [
    ({"in_channels": 0}, "in_channels is 0; expected an integer of at least 1"),
    ({"out_channels": 2.0}, "out_channels is 2.0; expected an integer"),
    ({"kernel_size": (3, 0)}, "kernel_size is 0"),
    ({"groups": 3}, "groups is 3; expected a divisor of in_channels 4 and out_channels 6"),
    ({"padding_mode": "reflect"}, 'padding_mode is .reflect.; only "zeros" is supported'),
])  # fmt: skip
def test_layer_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        nn.Conv2d(**{"in_channels": 4, "out_channels": 6, "kernel_size": 3, **arguments})


def test_layer_refuses_what_does_not_fit_its_weights():
    layer = nn.Conv2d(4, 6, 3)
    x = normal(X, np.float32)
    for bad, message in [
        (x.astype(np.float64), "x has dtype float64; expected float32, the dtype of the layer's weights"),
        (x.astype(int), "x has dtype int64; expected float32"),
        (x[0], r"x has shape \(4, 8, 6\); expected \(N, C, H, W\)"),
        (x.transpose(0, 2, 3, 1), "it looks like NHWC"),
    ]:
        with pytest.raises(ValueError, match=message):
            layer(bad)
    y = layer(x)
    with pytest.raises(ValueError, match=r"dy has shape \(1, 6, 6, 4\); expected \(2, 6, 6, 4\)"):
        layer.backward(y[:1])
    with pytest.raises(ValueError, match="dy and y have different dtypes"):
        layer.backward(y.astype(np.float64))
    with pytest.raises(TypeError, match="unexpected keyword argument 'device'"):
        nn.Conv2d(4, 6, 3, device="cpu")


# The layer, and torch


@pytest.mark.parametrize("arguments", [
    {}, {"stride": 2, "padding": 1, "bias": False}, {"padding": "same", "groups": 4, "kernel_size": (3, 5)},
], ids=str)  # fmt: skip
def test_layer_is_the_op(arguments):
    arguments = {"in_channels": 4, "out_channels": 8, "kernel_size": 3, **arguments}
    layer = nn.Conv2d(**arguments, dtype=np.float64)
    x = normal((2, 4, 7, 8))
    y = layer(x)
    dy = normal(y.shape, seed=1)
    dx = layer.backward(dy).copy()
    bias = layer.bias.data if arguments.get("bias", True) else None
    used = {name: arguments[name] for name in ("stride", "padding", "groups") if name in arguments}
    expected = passes(x, layer.weight.data, bias, used, dy)
    grads = [layer.weight.grad] + ([] if bias is None else [layer.bias.grad])
    for ours, wanted in zip((y, dx, *grads), expected):
        np.testing.assert_array_equal(ours, wanted)
    layer.weight.grad[...] = np.nan  # backward overwrites
    assert layer.backward(dy, input_gradient=False) is None
    np.testing.assert_array_equal(layer.weight.grad, expected[2])


@needs_torch
@settings(max_examples=20)
@given(problems())
def test_torch_agrees(problem):
    import torch

    x_shape, w_shape, arguments = problem
    x, w, b = operands(x_shape, w_shape)
    tx, tw, tb = (torch.tensor(np.ascontiguousarray(a), requires_grad=True) for a in (x, w, b))
    ty = torch.nn.functional.conv2d(tx, tw, tb, **arguments)
    dy = normal(tuple(ty.shape), seed=3)
    ty.backward(torch.tensor(np.ascontiguousarray(dy)))
    ours = passes(x, w, b, arguments, dy)
    for mine, theirs in zip(ours, (ty.detach(), tx.grad, tw.grad, tb.grad)):
        assert_close(mine, theirs.numpy(), 1e-12)


@needs_torch
@pytest.mark.parametrize("padding", ["valid", "same"])
def test_torch_resolves_padding_alike(padding):
    import torch

    x, w, b = operands((1, 2, 9, 8), (3, 2, 3, 5))
    theirs = torch.nn.functional.conv2d(*(torch.tensor(np.ascontiguousarray(a)) for a in (x, w, b)),
                                        padding=padding, dilation=(2, 1))  # fmt: skip
    assert_close(forward(x, w, b, padding=padding, dilation=(2, 1)), theirs.numpy(), 1e-13)


@needs_torch
def test_initial_weights_have_the_spread_of_torch():
    import torch

    nbprop.manual_seed(0)
    torch.manual_seed(0)
    ours, theirs = nn.Conv2d(32, 64, 3, groups=2), torch.nn.Conv2d(32, 64, 3, groups=2)
    for name, parameter in theirs.named_parameters():
        mine, other = getattr(ours, name).data, parameter.detach().numpy()
        assert mine.shape == other.shape
        assert np.abs(mine).max() == pytest.approx(np.abs(other).max(), rel=0.05)
        assert mine.std() == pytest.approx(other.std(), rel=0.2)


@pytest.mark.parametrize("call, message", [
    (lambda: nn.Conv2d(4, 6, 3)([[1.0]]), r"x is a list; expected a NumPy array"),
    (lambda: nn.Conv2d(4, 6, 3).backward(normal((1, 6, 2, 2), np.float32)), r"Conv2d.backward came before forward"),
    (lambda: nn.Conv2d(4, 6, 3, dtype=int), r"dtype is int64; expected float32 or float64"),
    (lambda: nn.Conv2d(4, 6, 3, stride=0), r"stride is 0; expected an integer of at least 1"),
    (lambda: backward_input(normal((1, 6, 2, 2)), normal((6, 4, 3, 3)), (4, 8, 6)), r"x_shape is \(4, 8, 6\); "),
    (lambda: backward_weight(normal((1, 6, 2, 2)), normal((1, 4, 4, 4)), None), r"w_shape is None; expected"),
    (lambda: forward(normal((1, 4, 4, 4)), normal((4, 3, 3))), r"w has shape .*; expected \(O, C"),
])  # fmt: skip
def test_misuse_is_one_sentence(call, message):
    with pytest.raises((ValueError, RuntimeError), match=message):
        call()
