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


# Few warps read further ahead. The rows' quads lie 4 apart in shared memory's 32 banks.
TILES = {
    4: (Tile(128, 128, 16, 8, 8), Tile(128, 64, 16, 8, 8), Tile(128, 32, 16, 8, 4), Tile(128, 16, 16, 8, 4),
        Tile(64, 64, 16, 8, 8), Tile(64, 32, 16, 4, 4), Tile(32, 32, 32, 4, 4), Tile(32, 16, 32, 4, 4)),
    8: (Tile(64, 64, 16, 4, 4), Tile(64, 32, 16, 4, 4), Tile(32, 32, 16, 4, 4), Tile(32, 16, 8, 4, 4)),
}  # fmt: skip
MULTIPROCESSORS = 132  # of the GPU that tiles are chosen for: a constant, so that every run makes the same choice
RESIDENT = 384  # threads that a multiprocessor holds at least, so that some multiply while others wait
_WARPS = 8  # below, a multiprocessor waits for memory
_TRAFFIC = 8  # multiply-adds in the time that a multiprocessor takes to read one number


def fitting(choice, rows, columns, copies, side_by_side=4):
    """Return the tile of `choice` that makes rows x columns results, `copies` times, soonest.

    `side_by_side` rows are read at once by a thread where rows are neighbours in memory: a block reads a whole line.
    """
    served = [tile for tile in choice if tile.threads * side_by_side >= tile.BM]
    return min(served, key=lambda tile: _time(tile, -(-rows // tile.BM) * -(-columns // tile.BN) * copies))


def _time(tile, blocks):
    """Estimate what `blocks` of a tile take, in multiply-adds of one term on the busiest multiprocessor."""
    share = -(-blocks // MULTIPROCESSORS)
    reads = tile.TM * tile.TN / (tile.TM + tile.TN)  # multiply-adds for each operand that a thread reads
    one = tile.BM * tile.BN * (1 + 1 / reads) + _TRAFFIC * (tile.BM + tile.BN)
    return share * one * max(1, _WARPS * 32 / (share * tile.threads)) ** 0.5


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
