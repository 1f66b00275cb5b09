"""Layer norm over contiguous rows. A row's sums run over blocks in the dtype of x, then in float64.

The weight's gradient is summed down the columns: tasks share out the blocks of columns of the chunks of rows, cut
by the shape alone; chunks are added in order.
"""

import math
from types import SimpleNamespace

import numpy as np

from nbprop import jit
from nbprop.ops.flat import share, tasks
from nbprop.ops.moments import joined

_BLOCK = 1024  # values that are summed up in the dtype of x
_COLUMNS = 512  # of a block: two sums of a column block stay in the first-level cache
_ROWS = 64  # that are summed up in the dtype of x
_CHUNK = 1 << 14  # elements that are worth a chunk
_CHUNKS = 64


@jit.kernel(reassoc=True)
def _moments(run, centre):
    """Return the sums of run - centre and of its square."""
    total, squares = run.dtype.type(0), run.dtype.type(0)
    for f in range(run.size):
        d = run[f] - centre
        total += d
        squares += d * d
    return total, squares


@jit.kernel
def _row_moments(row):
    """Return mean and variance; deviations are taken from the mean of the blocks before."""
    T = row.dtype.type
    total, _ = _moments(row[:_BLOCK], T(0))
    mean, scatter = np.float64(total) / min(row.size, _BLOCK), 0.0
    for start in range(0, row.size, _BLOCK):
        run = row[start : start + _BLOCK]
        centre = T(mean)
        total, squares = _moments(run, centre)
        own = np.float64(total) / run.size
        mean, scatter = joined(start, mean, scatter, run.size, centre + own, squares - total * own)
    return mean, (0.0 if scatter < 0 else scatter) / row.size


@jit.kernel
def _scale_row(row, weight, bias, centre, scale, shift, out):
    for f in range(row.size):
        out[f] = weight[f] * ((row[f] - centre) * scale + shift) + bias[f]


@jit.driver
def _forward_rows(x, weight, bias, eps, mean, rstd, y, task, tasks):
    begin, end = share(len(x), task, tasks)
    T = x.dtype.type
    for r in range(begin, end):
        mean[r], variance = _row_moments(x[r])
        rstd[r] = 1 / math.sqrt(variance + eps)
        centre = T(mean[r])
        _scale_row(x[r], weight, bias, centre, T(rstd[r]), T((centre - mean[r]) * rstd[r]), y[r])


def layer_norm_forward(x, weight, bias, eps, mean, rstd, y):
    _forward_rows(x, weight, bias, eps, mean, rstd, y, tasks(x.size))


@jit.kernel(reassoc=True)
def _products(dy, row, weight, centre):
    """Return the sums of g = weight dy and of g (row - centre)."""
    total, product = row.dtype.type(0), row.dtype.type(0)
    for f in range(row.size):
        g = weight[f] * dy[f]
        total += g
        product += g * (row[f] - centre)
    return total, product


@jit.kernel
def _input_row(dy, row, weight, centre, scale, slope, shift, dx):
    for f in range(row.size):
        dx[f] = weight[f] * dy[f] * scale + ((row[f] - centre) * slope + shift)


@jit.driver
def _input_rows(dy, x, weight, mean, rstd, dx, task, tasks):
    begin, end = share(len(x), task, tasks)
    T = x.dtype.type
    F = x.shape[1]
    for r in range(begin, end):
        centre = T(mean[r])
        low = mean[r] - centre  # the digits of the mean that x's dtype does not hold
        total, product = 0.0, 0.0
        for start in range(0, F, _BLOCK):
            stop = start + _BLOCK
            s, p = _products(dy[r, start:stop], x[r, start:stop], weight[start:stop], centre)
            total += s
            product += p - low * s
        slope = -product * rstd[r] * rstd[r] * rstd[r] / F
        shift = -total * rstd[r] / F - low * slope
        _input_row(dy[r], x[r], weight, centre, T(rstd[r]), T(slope), T(shift), dx[r])


def layer_norm_backward_input(dy, x, weight, mean, rstd, dx):
    _input_rows(dy, x, weight, mean, rstd, dx, tasks(x.size))


def workspace(rows, features, dtype):
    blocks = -(-features // _COLUMNS)
    chunks = max(1, min(_CHUNKS // max(blocks, 1), rows * features // _CHUNK, rows))
    return SimpleNamespace(
        size=(rows, features, blocks, chunks),
        tiles=np.empty((blocks * chunks, 2, _COLUMNS), dtype),
        partials=np.empty((chunks, 2, features), np.float64),
    )


@jit.kernel
def _add_row(dy, row, centre, scale, shift, dw, db):
    for f in range(row.size):
        dw[f] += dy[f] * ((row[f] - centre) * scale + shift)
        db[f] += dy[f]


@jit.driver
def _weight_blocks(dy, x, mean, rstd, size, tiles, partials, task, tasks):
    R, F, blocks, chunks = size
    begin, end = share(blocks * chunks, task, tasks)
    T = x.dtype.type
    for t in range(begin, end):
        k, first = t // blocks, t % blocks * _COLUMNS
        last = min(first + _COLUMNS, F)
        dw, db = tiles[t, 0, : last - first], tiles[t, 1, : last - first]
        wide = partials[k, :, first:last]
        wide[...] = 0
        stop = R * (k + 1) // chunks
        for start in range(R * k // chunks, stop, _ROWS):
            dw[:] = 0
            db[:] = 0
            for r in range(start, min(start + _ROWS, stop)):
                centre = T(mean[r])
                shift = T((centre - mean[r]) * rstd[r])
                _add_row(dy[r, first:last], x[r, first:last], centre, T(rstd[r]), shift, dw, db)
            for f in range(dw.size):
                wide[0, f] += dw[f]
                wide[1, f] += db[f]


@jit.kernel
def _add_chunks(partials, i, out):
    total = partials[0, i]
    for k in range(1, partials.shape[0]):
        part = partials[k, i]
        for f in range(total.size):
            total[f] += part[f]
    for f in range(total.size):
        out[f] = total[f]


def layer_norm_backward_weight(dy, x, mean, rstd, dw, db, work):
    _weight_blocks(dy, x, mean, rstd, work.size, work.tiles, work.partials, tasks(x.size))
    _add_chunks(work.partials, 0, dw)
    _add_chunks(work.partials, 1, db)
