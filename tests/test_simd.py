"""The micro-kernel by itself: every tile in use, with each way to read b, against NumPy; narrower vectors."""

import os
import pathlib
import platform
import subprocess
import sys

import numba
import numpy as np
import pytest
from oracle import rng

from nbprop.ops import dense, simd
from nbprop.ops.micro_kernel import multiply, product

ROOT = pathlib.Path(__file__).parents[1]
on_x86 = pytest.mark.skipif(platform.machine().lower() not in ("x86_64", "amd64"), reason="x86 only")
TILES = sorted({dense.tile(channels, np.dtype(dtype)) for channels in range(1, 200)
                for dtype in (np.float32, np.float64)})  # fmt: skip


@numba.njit
def run(micro, mr, row, a, a0, a_rows, n, sa, b, b0, sb, init, i0, si, c, c0, c_rows, width, floor):
    """Two tiles of the micro-kernel, as a function."""
    multiply(micro, row, row + mr + 1, a, a0, a_rows, n[0], n[1], n[2], sa[0], sa[1], sa[2], b, b0, sb[0], sb[1], sb[2],
             init, i0, si, c, c0, c_rows, width, floor, b, 0, 7)


def expected(mr, row, a, a0, a_rows, n, sa, b, b0, sb, init, i0, si, c, c0, c_rows, width, floor):
    """The docstring of `multiply`, in plain Python."""
    c = c.copy()
    lane = np.arange(width)
    for m in range(row, row + 2 * mr):
        total = init[i0 + si * c_rows[m] + lane].astype(np.float64)
        for i in np.ndindex(*n):
            at = a0 + a_rows[m] + np.dot(i, sa)
            total += np.float64(1) * a[at] * b[b0 + np.dot(i, sb) + lane]
        c[c0 + c_rows[m] + lane] = np.where(total < floor, floor, total)
    return c


def problem(mr, P, dtype, narrow, si, floor):
    """Operands with gaps everywhere, so that a wrong stride shows."""
    random = rng(mr, P, narrow, si)
    n, width, row = (2, 3, 5), P - 1 - P // 3 if narrow else P, 2
    sa, sb = (97, 31, 3), (17 * P, 5 * P, P)
    a_rows = 7 * random.permutation(2 * mr + row)
    c_rows = (P + 3) * random.permutation(2 * mr + row)
    a = random.standard_normal(2 + a_rows.max() + 97 + 2 * 31 + 4 * 3 + 1)
    b = random.standard_normal(3 + 17 * P + 2 * 5 * P + 4 * P + P)
    c = random.standard_normal(1 + c_rows.max() + P)
    init = c if si else random.standard_normal(4 + P)
    a, b, c = (v.astype(dtype) for v in (a, b, c))
    init, i0 = (c, 1) if si else (init.astype(dtype), 4)
    return row, a, 2, a_rows, n, sa, b, 3, sb, init, i0, si, c, 1, c_rows, width, dtype(floor)


@pytest.mark.parametrize("mr, nv", TILES)
def test_tiles_as_reference(mr, nv):
    dtype = np.float64 if (mr, nv) == TILES[0] else np.float32
    micro, P = product(mr, nv, np.dtype(dtype)), nv * simd.lanes(np.dtype(dtype))
    for narrow, si, floor in [(False, 0, -np.inf), (False, 1, 0), (True, 1, -np.inf), (True, 0, 0)]:
        arguments = problem(mr, P, dtype, narrow, si, floor)
        wanted = expected(mr, *arguments)
        run(micro, mr, *arguments)
        np.testing.assert_allclose(arguments[-5], wanted, rtol=0, atol=100 * np.finfo(dtype).eps)


@pytest.mark.parametrize("mr", [2, 12])
def test_rows_together_as_reference(mr):
    """Tiles whose rows are neighbours in a: of the second tile's, too, only the first has its place read."""
    micro = product(mr, 1, np.dtype(np.float32), together=True)
    arguments = problem(mr, simd.lanes(np.dtype(np.float32)), np.float32, True, 1, -np.inf)
    row, a_rows = arguments[0], arguments[3]
    a_rows[row : row + 2 * mr] = np.r_[: mr, 3 * mr : 4 * mr]
    wanted = expected(mr, *arguments)
    a_rows[[*range(row + 1, row + mr), *range(row + mr + 1, row + 2 * mr)]] = -(10**9)
    run(micro, mr, *arguments)
    np.testing.assert_allclose(arguments[-5], wanted, rtol=0, atol=1e-5)


def test_nan_passes_the_floor():
    micro, L = product(1, 1, np.dtype(np.float64)), simd.lanes(np.dtype(np.float64))
    row, one, b, c = np.zeros(2, np.int64), np.ones(1), np.arange(L) - 2.0, np.zeros(L)
    b[0] = np.nan
    run(micro, 1, 0, one, 0, row, (1, 1, 1), (0, 0, 0), b, 0, (0, 0, 0), np.zeros(L), 0, 0, c, 0, row, L, 0.0)
    np.testing.assert_array_equal(c, [np.nan, 0, *range(L - 2)])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_transpose_square_as_reference(dtype):
    L = simd.lanes(np.dtype(dtype))

    @numba.njit
    def run(source, start, stride, target, at, step):
        simd.transpose_square(source, start, stride, target, at, step)

    source, target = np.arange(3 + L * (L + 2), dtype=dtype), np.full(5 + L * (L + 1), -1, dtype)
    run(source, 3, L + 2, target, 5, L + 1)
    rows = target[5:].reshape(L, L + 1)
    np.testing.assert_array_equal(rows[:, :L], source[3:].reshape(L, L + 2)[:, :L].T)
    assert (rows[:, L] == -1).all() and (target[:5] == -1).all()  # and nothing else was written


def test_tiles_fit_the_registers():
    for mr, nv in TILES:
        assert mr * nv + nv + 1 <= simd.registers() or nv == 1  # a single vector of b can be read from memory
        assert mr * nv < simd.registers()
        assert nv <= simd.VECTORS


@on_x86
@pytest.mark.parametrize("processor, width", [("haswell", 32), ("generic", 16)])
def test_narrower_vectors(processor, width):
    """Kernels for other processors, where they would be wrong first: with channels that leave lanes idle."""
    code = f"""
import numpy as np
from nbprop.ops import simd
from nbprop.ops.conv import conv2d_backward_input, conv2d_backward_weight, conv2d_forward
assert simd.vector_bytes() == {width}, simd.vector_bytes()
assert simd.registers() == 16
rng = np.random.default_rng(0)
x = rng.standard_normal((2, 9, 9, 6)).astype(np.float32)
w = rng.standard_normal((11, 9, 3, 3)).astype(np.float32)
windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(2, 3))[:, :, ::2]  # n, c, i, j, kh, kw
y = conv2d_forward(x, w, stride=(2, 1))
np.testing.assert_allclose(y, np.einsum("ncijkl,ockl->noij", windows, w), atol=1e-4)
dx = conv2d_backward_input(y, w, x.shape, stride=(2, 1))
dw, db = conv2d_backward_weight(y, x, w.shape, stride=(2, 1))
np.testing.assert_allclose(np.vdot(dx, x), np.vdot(y, y), rtol=1e-4)
np.testing.assert_allclose(dw, np.einsum("ncijkl,noij->ockl", windows, y), atol=1e-2)
np.testing.assert_allclose(db, y.sum((0, 2, 3)), atol=1e-2)
print("compared")
"""
    environment = {**os.environ, "NUMBA_CPU_NAME": processor, "NUMBA_CPU_FEATURES": ""}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300,
                          env=environment)  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "compared\n"), done.stdout + done.stderr
