"""Norms on the GPU: moments and the gradient's sums in two launches each, y and dx in one pass.

Sums run over blocks of rows in the dtype of x, then in float64; deviations are taken from the mean of the rows
before, as on the CPU.
"""

import functools
from types import SimpleNamespace

import numpy as np

from nbprop import gpu
from nbprop.gpu import cuda
from nbprop.ops.cuda_columns import add_parts, narrow, part, plan
from nbprop.ops.cuda_pixels import lanes, split, vectors
from nbprop.ops.flat import flat
from nbprop.ops.moments import joined
from nbprop.ops.norm.deviation import affine, divisors
from nbprop.ops.through_relu import relu_slope

_BLOCK = 64  # rows that are summed up in the dtype of x


def workspace(shape, B, dtype):
    K = max(plan(shape, B, V).size[3] for V in (1, 4))
    C = shape[1]
    return SimpleNamespace(parts=gpu.empty((2, B * K, C), np.float64), table=gpu.empty((5, B, C), dtype))


def norm_statistics(x, mean, variance, work):
    (B, G), V = mean.shape, lanes(x.shape[1], x)
    cut = plan(x.shape, B, V)
    if not mean.size:
        return
    _moments(V, cut.threads, cut.width, x.dtype)[cut.grid, cut.threads](flat(x), work.parts, cut.size)
    threads, width = narrow(cut.size[3] * (x.shape[1] // G))
    _join(threads, width)[-(-B * G // width), threads](work.parts, mean, variance, cut.size)


def norm_divisors(variance, eps, divisor, rstd, pull):
    if variance.size:
        _divisors[gpu.blocks(variance.size), gpu.THREADS](variance, eps, divisor, rstd, pull)


def norm_remember(mean, variance, share, unbiased, running_mean, running_var):
    B, G = mean.shape
    threads, width = narrow(B)
    _remember(threads, width)[-(-G // width), threads](mean, variance, share, unbiased, running_mean, running_var)


def norm_forward(x, weight, bias, mean, rstd, added, relu, y, work):
    added, adds = (x, False) if added is None else (added, True)
    V = lanes(x.shape[1], x, added, y)
    cut = plan(x.shape, mean.shape[0], V)
    if x.size:
        scale = _forward(V, cut.threads, cut.width, x.dtype, adds, bool(relu))
        scale[cut.grid, cut.threads](flat(x), weight, bias, mean, rstd, flat(added), flat(y), cut.size)


def norm_forward_own(x, weight, bias, eps, divisor, added, relu, mean, variance, rstd, pull, y, work):
    norm_statistics(x, mean, variance, work)
    norm_divisors(variance, eps, divisor, rstd, pull)
    norm_forward(x, weight, bias, mean, rstd, added, relu, y, work)


def norm_backward_sums(dy, x, weight, bias, mean, rstd, relu, sums, work):
    V = lanes(x.shape[1], dy, x)
    B = mean.shape[0]
    cut = plan(x.shape, B, V)
    if sums.size:
        products = _sums(V, cut.threads, cut.width, x.dtype, bool(relu))
        products[cut.grid, cut.threads](flat(dy), flat(x), weight, bias, mean, rstd, work.parts, cut.size)
        add_parts(work.parts[:, : B * cut.size[3]], sums)


def norm_backward_weight(sums, rstd, dw, db):
    _, B, C = sums.shape
    threads, width = narrow(B)
    _weight(threads, width)[-(-C // width), threads](sums, rstd, dw, db)


def norm_backward_input(dy, x, weight, bias, mean, rstd, pull, sums, fixed, relu, dx, work):
    V = lanes(x.shape[1], dy, x, dx)
    cut = plan(x.shape, mean.shape[0], V)
    if x.size:
        elements = work.table[0].size
        _table[gpu.blocks(elements), gpu.THREADS](weight, bias, mean, rstd, pull, sums, fixed, cut.size, work.table)
        slope = _input(V, cut.threads, cut.width, x.dtype, bool(relu))
        slope[cut.grid, cut.threads](flat(dy), flat(x), flat(dx), work.table, cut.size)


def norm_backward_own(dy, x, weight, bias, mean, rstd, pull, relu, sums, dx, work):
    norm_backward_sums(dy, x, weight, bias, mean, rstd, relu, sums, work)
    norm_backward_input(dy, x, weight, bias, mean, rstd, pull, sums, False, relu, dx, work)


@functools.cache
def _moments(V, threads, width, dtype):
    """Fill parts with the mean of each chunk's rows, and the sum of squared deviations from it."""
    number, (get, _), part_of = gpu.from_dtype(dtype), vectors(V), part(threads, width, V)
    total_of = gpu.reduction(gpu.add, threads, np.float64, width)
    step = threads // width

    @gpu.kernel(launch_bounds=threads)
    def moments(x, parts, size):
        value, centre = cuda.local.array(V, number), cuda.local.array(V, number)
        total, squares = cuda.local.array(V, number), cuda.local.array(V, number)
        mean, scatter = cuda.local.array(V, np.float64), cuda.local.array(V, np.float64)
        T, C, rows = x.dtype.type, size[2], 0
        _, chunk, c, r, stop = part_of(size)
        first = r - np.int64(cuda.threadIdx.x) // width
        for j in range(V):
            mean[j] = scatter[j] = 0
        if c < C:
            if r < stop:
                get(x, r * C + c, value)
                for j in range(V):
                    mean[j] = value[j]
            while r < stop:
                for j in range(V):
                    centre[j], total[j], squares[j] = T(mean[j]), 0, 0
                begin, end = r, min(stop, r + _BLOCK * step)
                while r < end:
                    get(x, r * C + c, value)
                    for j in range(V):
                        d = value[j] - centre[j]
                        total[j] += d
                        squares[j] += d * d
                    r += step
                more = (r - begin) // step
                for j in range(V):
                    s = np.float64(total[j])
                    mean[j], scatter[j] = joined(rows, mean[j], scatter[j], more, centre[j] + s / more,
                                                 squares[j] - s * s / more)
                rows += more
        for j in range(V):
            whole = total_of(rows * mean[j]) / max(stop - first, 1)
            d = mean[j] - whole
            spread = total_of(scatter[j] + rows * d * d if rows else 0.0)
            if cuda.threadIdx.x < width and c < C:
                parts[0, chunk, c + j], parts[1, chunk, c + j] = whole, spread

    return moments


@functools.cache
def _join(threads, width):
    """Join the chunks of a block and the channels of a group, which the block's threads share."""
    total_of = gpu.reduction(gpu.add, threads, np.float64, width)

    @gpu.kernel(launch_bounds=threads)
    def join(parts, mean, variance, size):
        (_, R, C, K), (B, G) = size, mean.shape
        D = C // G
        t = np.int64(cuda.threadIdx.x)
        group = cuda.blockIdx.x * np.int64(width) + t % width
        b, g = split(group, G)
        total, spread = 0.0, 0.0
        if group < B * G:
            for i in range(t // width, K * D, threads // width):
                k, c = split(i, D)
                total += (R * (k + 1) // K - R * k // K) * parts[0, b * K + k, g * D + c]
        centre = total_of(total) / max(R * D, 1)
        if group < B * G:
            for i in range(t // width, K * D, threads // width):
                k, c = split(i, D)
                d = parts[0, b * K + k, g * D + c] - centre
                spread += parts[1, b * K + k, g * D + c] + (R * (k + 1) // K - R * k // K) * d * d
        spread = total_of(spread)
        if t < width and group < B * G:
            # Rounding may leave a little less than nothing of equal values.
            mean[b, g], variance[b, g] = centre, (0.0 if spread < 0 else spread) / max(R * D, 1)

    return join


@gpu.kernel
def _divisors(variance, eps, divisor, rstd, pull):
    for i in range(cuda.grid(1), variance.size, cuda.gridsize(1)):
        b, g = i // variance.shape[1], i % variance.shape[1]
        rstd[b, g], pull[b, g] = divisors(variance[b, g], eps, divisor)


@functools.cache
def _remember(threads, width):
    total_of = gpu.reduction(gpu.add, threads, np.float64, width)

    @gpu.kernel(launch_bounds=threads)
    def remember(mean, variance, share, unbiased, running_mean, running_var):
        B, G = mean.shape
        t = cuda.threadIdx.x
        g = cuda.blockIdx.x * width + t % width
        m, v = 0.0, 0.0
        if g < G:
            for b in range(t // width, B, threads // width):
                m += mean[b, g]
                v += variance[b, g]
        m, v = total_of(m), total_of(v)
        if t < width and g < G:
            running_mean[g] += share * (m / B - running_mean[g])
            running_var[g] += share * (v / B * unbiased - running_var[g])

    return remember


@functools.cache
def _forward(V, threads, width, dtype, adds, relu):
    number, (get, put), part_of = gpu.from_dtype(dtype), vectors(V), part(threads, width, V)

    @gpu.kernel(launch_bounds=threads)
    def forward(x, weight, bias, mean, rstd, added, y, size):
        value, centre, more = cuda.local.array(V, number), cuda.local.array(V, number), cuda.local.array(V, number)
        scale, shift = cuda.local.array(V, number), cuda.local.array(V, number)
        C = size[2]
        b, _, c, r, stop = part_of(size)
        if c < C:
            for j in range(V):
                g, _ = split(c + j, C // mean.shape[1])
                centre[j] = mean[b, g]
                scale[j], shift[j] = affine(weight[c + j], bias[c + j], mean[b, g], rstd[b, g], centre[j])
            while r < stop:
                get(x, r * C + c, value)
                if adds:
                    get(added, r * C + c, more)
                for j in range(V):
                    value[j] = (value[j] - centre[j]) * scale[j] + shift[j]
                    if adds:
                        value[j] += more[j]
                    if relu and value[j] < 0:
                        value[j] = 0
                put(y, r * C + c, value)
                r += threads // width

    return forward


@functools.cache
def _sums(V, threads, width, dtype, relu):
    """Fill parts with each chunk's sums of dy and of dy (x - mean); `relu`: of dy times the slope at the output."""
    number, (get, _), part_of = gpu.from_dtype(dtype), vectors(V), part(threads, width, V)
    total_of = gpu.reduction(gpu.add, threads, np.float64, width)
    step = threads // width

    @gpu.kernel(launch_bounds=threads)
    def sums(dy, x, weight, bias, mean, rstd, parts, size):
        value, d, centre = cuda.local.array(V, number), cuda.local.array(V, number), cuda.local.array(V, number)
        scale, shift = cuda.local.array(V, number), cuda.local.array(V, number)
        total, product = cuda.local.array(V, number), cuda.local.array(V, number)
        totals, products = cuda.local.array(V, np.float64), cuda.local.array(V, np.float64)
        low = cuda.local.array(V, np.float64)
        C = size[2]
        b, chunk, c, r, stop = part_of(size)
        for j in range(V):
            totals[j] = products[j] = low[j] = 0
        if c < C:
            for j in range(V):
                g, _ = split(c + j, C // mean.shape[1])
                centre[j] = mean[b, g]
                low[j] = mean[b, g] - centre[j]  # the digits of the mean that x's dtype does not hold
                scale[j], shift[j] = affine(weight[c + j], bias[c + j], mean[b, g], rstd[b, g], centre[j])
            while r < stop:
                for j in range(V):
                    total[j] = product[j] = 0
                end = min(stop, r + _BLOCK * step)
                while r < end:
                    get(dy, r * C + c, d)
                    get(x, r * C + c, value)
                    for j in range(V):
                        value[j] -= centre[j]
                        if relu:
                            d[j] *= relu_slope(value[j] * scale[j] + shift[j])
                        total[j] += d[j]
                        product[j] += d[j] * value[j]
                    r += step
                for j in range(V):
                    totals[j] += total[j]
                    products[j] += product[j]
        for j in range(V):
            whole, wholes = total_of(totals[j]), total_of(products[j] - low[j] * totals[j])
            if cuda.threadIdx.x < width and c < C:
                parts[0, chunk, c + j], parts[1, chunk, c + j] = whole, wholes

    return sums


@functools.cache
def _weight(threads, width):
    total_of = gpu.reduction(gpu.add, threads, np.float64, width)

    @gpu.kernel(launch_bounds=threads)
    def weight(sums, rstd, dw, db):
        _, B, C = sums.shape
        t = cuda.threadIdx.x
        c = cuda.blockIdx.x * width + t % width
        total, product = 0.0, 0.0
        if c < C:
            g, _ = split(c, C // rstd.shape[1])
            for b in range(t // width, B, threads // width):
                total += sums[0, b, c]
                product += sums[1, b, c] * rstd[b, g]
        total, product = total_of(total), total_of(product)
        if t < width and c < C:
            dw[c], db[c] = product, total

    return weight


@gpu.kernel
def _table(weight, bias, mean, rstd, pull, sums, fixed, size, table):
    """Fill the factors of dx = dy scale + ((x - centre) slope + rest), and of y = (x - centre) scale + shift."""
    (_, R, C, _), (B, G) = size, mean.shape
    D = C // G
    m = max(R * D, 1)
    for i in range(cuda.grid(1), B * C, cuda.gridsize(1)):
        b, c = i // C, i % C
        g = c // D
        total, product = 0.0, 0.0
        if not fixed:
            for k in range(g * D, (g + 1) * D):
                total += weight[k] * sums[0, b, k]
                product += weight[k] * sums[1, b, k]
        turn = -pull[b, g] * product / m
        table[0, b, c], table[2, b, c] = mean[b, g], turn
        table[1, b, c], table[4, b, c] = affine(weight[c], bias[c], mean[b, g], rstd[b, g], table[0, b, c])
        table[3, b, c] = -rstd[b, g] * total / m - (mean[b, g] - table[0, b, c]) * turn


@functools.cache
def _input(V, threads, width, dtype, relu):
    number, (get, put), part_of = gpu.from_dtype(dtype), vectors(V), part(threads, width, V)

    @gpu.kernel(launch_bounds=threads)
    def backward_input(dy, x, dx, table, size):
        value, d = cuda.local.array(V, number), cuda.local.array(V, number)
        centre, scale, shift = cuda.local.array(V, number), cuda.local.array(V, number), cuda.local.array(V, number)
        slope, rest = cuda.local.array(V, number), cuda.local.array(V, number)
        C = size[2]
        b, _, c, r, stop = part_of(size)
        if c < C:
            for j in range(V):
                centre[j], scale[j] = table[0, b, c + j], table[1, b, c + j]
                slope[j], rest[j], shift[j] = table[2, b, c + j], table[3, b, c + j], table[4, b, c + j]
            while r < stop:
                get(dy, r * C + c, d)
                get(x, r * C + c, value)
                for j in range(V):
                    value[j] -= centre[j]
                    if relu:
                        d[j] *= relu_slope(value[j] * scale[j] + shift[j])
                    d[j] = d[j] * scale[j] + (value[j] * slope[j] + rest[j])
                put(dx, r * C + c, d)
                r += threads // width

    return backward_input
