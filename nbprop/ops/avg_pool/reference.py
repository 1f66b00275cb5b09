"""Average pooling as it is written: add up the window, divide by how many positions count."""

from nbprop import jit


@jit.reference
def _positions(oh, ow, H, W, kernel, stride, padding, count_include_pad, divisor):
    """Return m: how many positions of a window lie in the padded image, or in the image itself."""
    if divisor:
        return divisor
    (KH, KW), (SH, SW), (PH, PW) = kernel, stride, padding
    m = 0
    for kh in range(KH):
        for kw in range(KW):
            h = oh * SH - PH + kh
            w = ow * SW - PW + kw
            if count_include_pad:
                m += -PH <= h < H + PH and -PW <= w < W + PW
            else:
                m += 0 <= h < H and 0 <= w < W
    return m


@jit.reference
def avg_pool2d_forward(x, y, kernel, stride, padding, count_include_pad, divisor):
    N, C, H, W = x.shape
    _, _, OH, OW = y.shape
    (KH, KW), (SH, SW), (PH, PW) = kernel, stride, padding
    for n in range(N):
        for c in range(C):
            for oh in range(OH):
                for ow in range(OW):
                    total = x.dtype.type(0)
                    for kh in range(KH):
                        for kw in range(KW):
                            h = oh * SH - PH + kh
                            w = ow * SW - PW + kw
                            if 0 <= h < H and 0 <= w < W:
                                total += x[n, c, h, w]
                    m = _positions(oh, ow, H, W, kernel, stride, padding, count_include_pad, divisor)
                    y[n, c, oh, ow] = total / x.dtype.type(m)


@jit.reference
def avg_pool2d_backward(dy, dx, kernel, stride, padding, count_include_pad, divisor):
    N, C, H, W = dx.shape
    _, _, OH, OW = dy.shape
    (KH, KW), (SH, SW), (PH, PW) = kernel, stride, padding
    dx[...] = 0
    for n in range(N):
        for c in range(C):
            for oh in range(OH):
                for ow in range(OW):
                    m = _positions(oh, ow, H, W, kernel, stride, padding, count_include_pad, divisor)
                    share = dy[n, c, oh, ow] / dy.dtype.type(m)
                    for kh in range(KH):
                        for kw in range(KW):
                            h = oh * SH - PH + kh
                            w = ow * SW - PW + kw
                            if 0 <= h < H and 0 <= w < W:
                                dx[n, c, h, w] += share
