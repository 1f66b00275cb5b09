"""The two correlations of unit stride that seed 003 makes of a strided convolution's gradients, on the GPU.

Plain sums, one result per thread, as in literal.py: nbprop.ops.conv is the fast one.
"""

from nbprop import gpu, layout
from nbprop.gpu import cuda

__all__ = ["correlate_with_delta", "correlate_with_rotated"]


def correlate_with_rotated(delta, rotated, dx, padding, dilation):
    """dx[n, c, h, w] = sum of delta[n, o, h + P + kh D, w + P + kw D] rotated[c, o, kh, kw]: P is cropped."""
    if dx.size:
        images = layout.nhwc(delta), layout.nhwc(dx)
        _with_rotated[gpu.blocks(dx.size), gpu.THREADS](images[0], rotated, images[1], padding, dilation)


def correlate_with_delta(x, delta, dw, padding, dilation):
    """dw[o, c, kh, kw] = sum of x[n, c, i + kh D - P, j + kw D - P] delta[n, o, i, j], the kernel."""
    if dw.size:
        images = layout.nhwc(x), layout.nhwc(delta)
        _with_delta[gpu.blocks(dw.size), gpu.THREADS](*images, layout.khwio(dw), padding, dilation)


@gpu.kernel
def _with_rotated(delta, rotated, dx, padding, dilation):
    (PH, PW), (DH, DW) = padding, dilation
    _, H, W, C = dx.shape
    _, O, KH, KW = rotated.shape
    for index in range(cuda.grid(1), dx.size, cuda.gridsize(1)):
        c, rest = index % C, index // C
        w, rest = rest % W, rest // W
        h, n = rest % H, rest // H
        total = dx.dtype.type(0)
        for kh in range(KH):
            for kw in range(KW):
                for o in range(O):
                    total += delta[n, h + PH + kh * DH, w + PW + kw * DW, o] * rotated[c, o, kh, kw]
        dx[n, h, w, c] = total


@gpu.kernel
def _with_delta(x, delta, dw, padding, dilation):
    (PH, PW), (DH, DW) = padding, dilation
    N, H, W, _ = x.shape
    _, height, width, _ = delta.shape
    _, KW, C, O = dw.shape
    for index in range(cuda.grid(1), dw.size, cuda.gridsize(1)):
        o, rest = index % O, index // O
        c, rest = rest % C, rest // C
        kw, kh = rest % KW, rest // KW
        total = dw.dtype.type(0)
        for n in range(N):
            for i in range(height):
                h = i + kh * DH - PH
                if h >= 0 and h < H:
                    for j in range(width):
                        w = j + kw * DW - PW
                        if w >= 0 and w < W:
                            total += x[n, h, w, c] * delta[n, i, j, o]
        dw[kh, kw, c, o] = total
