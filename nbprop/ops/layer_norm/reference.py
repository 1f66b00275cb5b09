"""Layer norm as it is derived, for rows of F values x_f:

    mean = 1/F sum_f x_f,   v = 1/F sum_f (x_f - mean)^2,   rstd = 1 / sqrt(v + eps)
    xhat_f = (x_f - mean) rstd,   y_f = w_f xhat_f + b_f

Gradient. With g_f = dE/dxhat_f = w_f dy_f, E depends on x_f through xhat_f itself, and through the mean and
rstd that all xhat_k share: dmean/dx_f = 1/F, and

    drstd/dx_f = -1/2 rstd^3 dv/dx_f = -rstd^3 (x_f - mean) / F,   so

    dxhat_k/dx_f = rstd ([k = f] - 1/F) - (x_k - mean) rstd^3 (x_f - mean) / F
                 = rstd ([k = f] - 1/F - xhat_k xhat_f / F)

    dx_f = sum_k g_k dxhat_k/dx_f = rstd (g_f - 1/F sum_k g_k - xhat_f 1/F sum_k g_k xhat_k)

and, over all rows, dw_f = sum of dy_f xhat_f, db_f = sum of dy_f.
"""

import math

from nbprop import jit


def workspace(rows, features, dtype):
    return None


@jit.reference
def layer_norm_forward(x, weight, bias, eps, mean, rstd, y):
    R, F = x.shape
    for r in range(R):
        total = 0.0
        for f in range(F):
            total += x[r, f]
        mean[r] = total / F
        total = 0.0
        for f in range(F):
            total += (x[r, f] - mean[r]) ** 2
        rstd[r] = 1 / math.sqrt(total / F + eps)
        for f in range(F):
            y[r, f] = weight[f] * ((x[r, f] - mean[r]) * rstd[r]) + bias[f]


@jit.reference
def layer_norm_backward_input(dy, x, weight, mean, rstd, dx):
    R, F = x.shape
    for r in range(R):
        total, product = 0.0, 0.0
        for f in range(F):
            g = weight[f] * dy[r, f]
            total += g
            product += g * ((x[r, f] - mean[r]) * rstd[r])
        for f in range(F):
            xhat = (x[r, f] - mean[r]) * rstd[r]
            dx[r, f] = rstd[r] * (weight[f] * dy[r, f] - total / F - xhat * product / F)


@jit.reference
def layer_norm_backward_weight(dy, x, mean, rstd, dw, db, work):
    R, F = x.shape
    for f in range(F):
        weight_gradient, bias_gradient = 0.0, 0.0
        for r in range(R):
            weight_gradient += dy[r, f] * ((x[r, f] - mean[r]) * rstd[r])
            bias_gradient += dy[r, f]
        dw[f] = weight_gradient
        db[f] = bias_gradient
