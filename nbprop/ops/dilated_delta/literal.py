"""The two correlations of unit stride that seed 003 makes of a strided convolution's gradients."""

from nbprop import jit

__all__ = ["correlate_with_delta", "correlate_with_rotated"]


@jit.reference
def correlate_with_rotated(delta, rotated, dx, padding, dilation):
    """dx[n, c, h, w] = sum of delta[n, o, h + P + kh D, w + P + kw D] rotated[c, o, kh, kw]: P is cropped."""
    N, C, H, W = dx.shape
    _, O, KH, KW = rotated.shape
    (PH, PW), (DH, DW) = padding, dilation
    dx[...] = 0
    for n in range(N):
        for c in range(C):
            for h in range(H):
                for w in range(W):
                    for o in range(O):
                        for kh in range(KH):
                            for kw in range(KW):
                                d = delta[n, o, h + PH + kh * DH, w + PW + kw * DW]
                                dx[n, c, h, w] += d * rotated[c, o, kh, kw]


@jit.reference
def correlate_with_delta(x, delta, dw, padding, dilation):
    """dw[o, c, kh, kw] = sum of x[n, c, i + kh D - P, j + kw D - P] delta[n, o, i, j], the kernel."""
    N, C, H, W = x.shape
    _, _, height, width = delta.shape
    O, _, KH, KW = dw.shape
    (PH, PW), (DH, DW) = padding, dilation
    dw[...] = 0
    for o in range(O):
        for c in range(C):
            for kh in range(KH):
                for kw in range(KW):
                    for n in range(N):
                        for i in range(height):
                            for j in range(width):
                                h, w = i + kh * DH - PH, j + kw * DW - PW
                                if 0 <= h < H and 0 <= w < W:
                                    dw[o, c, kh, kw] += x[n, c, h, w] * delta[n, o, i, j]
