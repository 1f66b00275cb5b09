"""Normalisation over groups of values, as it is derived.

A group is the D = C / G channels g D .. (g+1) D - 1 of one image (B = N blocks of one image) or of the batch
(B = 1 block of N images): m = (N / B) D H W values x_i, with

    mean = 1/m sum_i x_i,   v = 1/m sum_i (x_i - mean)^2,   s = sqrt(v + eps)   (or another divisor)
    y_i  = w_c (x_i - mean) / s + b_c                        with c the channel of i

Gradient. With g_i = w_c dy_i and d_i = x_i - mean, E depends on x_i through d_i itself, through every d_j by
the mean (dmean/dx_i = 1/m), and through s. The last is ds/dx_i = d_i / (m t), as v has the slope

    dv/dx_i = 2/m (d_i - 1/m sum_j d_j) = 2 d_i / m,   sum_j d_j being 0:

    s = sqrt(v + eps)   t = s
    s = sqrt(v) + eps   t = sqrt(v)
    s = 1               1/t = 0

so that, of the sum over j of g_j d(d_j / s)/dx_i,

    dx_i = g_i / s - 1/m sum_j g_j / s - 1/s^2 (sum_j g_j d_j) d_i / (m t)
         = rstd (g_i - mean of g) - pull (mean of g d) d_i      with rstd = 1/s, pull = 1/(s^2 t)

    dw_c = sum of dy_i (x_i - mean) / s,  db_c = sum of dy_i       over all i of channel c.

With fixed statistics (running averages, in evaluation) mean and s do not depend on x: dx_i = rstd g_i.

Seed 000, section 3.5 is a heading, the derivation is ours. Ioffe and Szegedy 2015, section 3 has the case of
batches, s = sqrt(v + eps).
"""

from nbprop import jit
from nbprop.ops.norm.deviation import divisors
from nbprop.ops.through_relu import relu_slope


def workspace(shape, B, dtype):
    return None


@jit.reference
def norm_statistics(x, mean, variance, work):
    N, C, H, W = x.shape
    B, G = mean.shape
    D = C // G
    images = N // max(B, 1)
    m = max(images * D * H * W, 1)
    for b in range(B):
        for g in range(G):
            group = x[b * images : (b + 1) * images, g * D : (g + 1) * D]
            total = 0.0
            for value in group.flat:
                total += value
            mean[b, g] = total / m
            total = 0.0
            for value in group.flat:
                total += (value - mean[b, g]) ** 2
            variance[b, g] = total / m


@jit.reference
def norm_divisors(variance, eps, divisor, rstd, pull):
    """Fill rstd with 1/s and pull with 1/(s^2 t)."""
    for b in range(variance.shape[0]):
        for g in range(variance.shape[1]):
            rstd[b, g], pull[b, g] = divisors(variance[b, g], eps, divisor)


@jit.reference
def norm_remember(mean, variance, share, unbiased, running_mean, running_var):
    """Move the running statistics towards those of this batch, whose variance is multiplied by `unbiased`."""
    B, G = mean.shape
    for g in range(G):
        m, v = 0.0, 0.0
        for b in range(B):
            m += mean[b, g]
            v += variance[b, g]
        running_mean[g] += share * (m / B - running_mean[g])
        running_var[g] += share * (v / B * unbiased - running_var[g])


@jit.scalar
def _normalised(x, weight, bias, mean, rstd):
    return weight * ((x - mean) * rstd) + bias


@jit.reference
def norm_forward(x, weight, bias, mean, rstd, added, relu, y, work):
    """Fill y with the normalised x, scaled and shifted, plus `added` if not None, with `relu` its positive part."""
    N, C, H, W = x.shape
    B, G = mean.shape
    for n in range(N):
        b = n * B // N
        for c in range(C):
            g = c * G // C
            for h in range(H):
                for w in range(W):
                    v = _normalised(x[n, c, h, w], weight[c], bias[c], mean[b, g], rstd[b, g])
                    if added is not None:
                        v += added[n, c, h, w]
                    y[n, c, h, w] = 0 if relu and v < 0 else v


def norm_forward_own(x, weight, bias, eps, divisor, added, relu, mean, variance, rstd, pull, y, work):
    """Normalise x with its own statistics: fill mean, variance, what `norm_divisors` makes of it, and y."""
    norm_statistics(x, mean, variance, work)
    norm_divisors(variance, eps, divisor, rstd, pull)
    norm_forward(x, weight, bias, mean, rstd, added, relu, y, work)


@jit.reference
def norm_backward_sums(dy, x, weight, bias, mean, rstd, relu, sums, work):
    """Fill sums[0, b, c] with the sum of dy and sums[1, b, c] with that of dy (x - mean).

    With `relu` dy is what a ReLU behind was given, and is multiplied by its slope at the output for x.
    """
    N, C, H, W = x.shape
    B, G = mean.shape
    sums[...] = 0
    for n in range(N):
        b = n * B // N
        for c in range(C):
            g = c * G // C
            for h in range(H):
                for w in range(W):
                    d = dy[n, c, h, w]
                    if relu:
                        d *= relu_slope(_normalised(x[n, c, h, w], weight[c], bias[c], mean[b, g], rstd[b, g]))
                    sums[0, b, c] += d
                    sums[1, b, c] += d * (x[n, c, h, w] - mean[b, g])


@jit.reference
def norm_backward_weight(sums, rstd, dw, db):
    _, B, C = sums.shape
    G = rstd.shape[1]
    for c in range(C):
        weight_gradient, bias_gradient = 0.0, 0.0
        for b in range(B):
            weight_gradient += sums[1, b, c] * rstd[b, c * G // C]
            bias_gradient += sums[0, b, c]
        dw[c] = weight_gradient
        db[c] = bias_gradient


@jit.reference
def norm_backward_input(dy, x, weight, bias, mean, rstd, pull, sums, fixed, relu, dx, work):
    """Fill dx; `relu` as in `norm_backward_sums`."""
    N, C, H, W = x.shape
    B, G = mean.shape
    D = C // G
    m = N // max(B, 1) * D * H * W
    for n in range(N):
        b = n * B // N
        for c in range(C):
            g = c // D
            mean_g, mean_gd = 0.0, 0.0
            if not fixed:
                for k in range(g * D, (g + 1) * D):
                    mean_g += weight[k] * sums[0, b, k] / m
                    mean_gd += weight[k] * sums[1, b, k] / m
            for h in range(H):
                for w in range(W):
                    d = x[n, c, h, w] - mean[b, g]
                    g_i = weight[c] * dy[n, c, h, w]
                    if relu:
                        g_i *= relu_slope(_normalised(x[n, c, h, w], weight[c], bias[c], mean[b, g], rstd[b, g]))
                    dx[n, c, h, w] = rstd[b, g] * (g_i - mean_g) - pull[b, g] * mean_gd * d


def norm_backward_own(dy, x, weight, bias, mean, rstd, pull, relu, sums, dx, work):
    """Fill sums and dx behind `norm_forward_own`."""
    norm_backward_sums(dy, x, weight, bias, mean, rstd, relu, sums, work)
    norm_backward_input(dy, x, weight, bias, mean, rstd, pull, sums, False, relu, dx, work)
