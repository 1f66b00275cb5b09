"""The block of results that a CUDA block holds in registers, and its product with multiply-adds.

All dense ops on the GPU are one structure, the convolution's as well as the linear layer's:

    global memory -> registers -> shared memory, two buffers -> registers -> multiply-adds -> epilogue

A block of threads makes BM x BN results from BK terms at a time: sa[k, m] and sb[k, n] in shared memory, read as
quads. Thread t holds TM x TN of the results, quads of rows and columns that lie a sixteenth of the block apart:

    row i of t: i // 4 * HM + ty * 4 + i % 4,  quad j of columns: j * HN + tx * 4,  t = ty * NX + tx
"""

import functools

from nbprop import gpu, precision
from nbprop.gpu import cuda
from nbprop.ops import cuda_tensor
from nbprop.ops.cuda_form import Form, Tile
from nbprop.ops.cuda_quads import quad

__all__ = ["fitting", "multiplication", "multiply_add"]


# Large tiles first; few warps read further ahead. The rows' quads lie 4 apart in shared memory's 32 banks.
TILES = {
    4: (Tile(128, 128, 16, 8, 8), Tile(128, 64, 16, 8, 8), Tile(128, 32, 16, 8, 4), Tile(128, 16, 16, 8, 4),
        Tile(64, 64, 16, 8, 8), Tile(64, 32, 16, 4, 4), Tile(32, 32, 32, 4, 4), Tile(32, 16, 32, 4, 4)),
    8: (Tile(64, 64, 16, 4, 4), Tile(64, 32, 16, 4, 4), Tile(32, 32, 16, 4, 4), Tile(32, 16, 8, 4, 4)),
}  # fmt: skip
BLOCKS = 128  # below, multiprocessors stand idle: a smaller tile makes more


def fitting(choice, rows, columns, copies, side_by_side=4):
    """Return the largest tile of `choice` that wastes few results and still makes a block for every multiprocessor.

    `side_by_side` rows are read at once by a thread where rows are neighbours in memory: a block reads a whole line.
    """
    least = choice[-1]
    narrow = [t for t in choice if t.BN < max(2 * columns, least.BN + 1) and t.BM < max(2 * rows, least.BM + 1)
              and t.threads * side_by_side >= t.BM]
    for tile in narrow:
        if -(-rows // tile.BM) * -(-columns // tile.BN) * copies >= BLOCKS:
            return tile
    return narrow[-1]


def multiplication(dtype):
    """Return the form of product that is allowed for `dtype` on this GPU."""
    allowed = precision.products()
    if allowed == "float32" or dtype.itemsize != 4 or gpu.capability() < (8, 0):
        return multiply_add
    return cuda_tensor.bf16 if allowed == "bf16" else cuda_tensor.tf32


@gpu.device
def _unchanged(x):
    return x


@functools.cache
def multiply_add(tile, number):
    """The product in `number` by fused multiply-adds."""
    BM, BN, BK, TM, TN = tile
    NX = BN // TN
    HM, HN = 4 * (BM // TM), 4 * NX
    LA, LB = BM + 4, BN + 4

    @gpu.device
    def step(acc, sa, a0, sb, b0, t):
        a = cuda.local.array(TM, number)
        b = cuda.local.array(TN, number)
        a0 += t // NX * 4
        b0 += t % NX * 4
        for k in range(BK):
            for i in range(0, TM, 4):
                a[i], a[i + 1], a[i + 2], a[i + 3] = quad(sa, a0 + k * LA + i // 4 * HM)
            for j in range(0, TN, 4):
                b[j], b[j + 1], b[j + 2], b[j + 3] = quad(sb, b0 + k * LB + j // 4 * HN)
            for i in range(TM):
                for j in range(TN):
                    acc[i, j] += a[i] * b[j]

    @gpu.device
    def row(t, i):
        return i // 4 * HM + t // NX * 4 + i % 4

    @gpu.device
    def column(t, j):
        return j * HN + t % NX * 4

    return Form(LA, LB, step, row, column, 4, _unchanged)
