"""Check indices that a caller brings: a kernel trusts them."""

from nbprop import jit


@jit.kernel
def all_in_their_windows(indices, H, W, kernel, stride, padding, dilation):
    """Say whether each of indices (N, OH, OW, C) is a position of its window and lies in the plane."""
    (KH, KW), (SH, SW), (PH, PW), (DH, DW) = kernel, stride, padding, dilation
    N, OH, OW, C = indices.shape
    for n in range(N):
        for oh in range(OH):
            for ow in range(OW):
                for c in range(C):
                    i = indices[n, oh, ow, c]
                    if i < 0 or i >= H * W:
                        return False
                    down, right = i // W - (oh * SH - PH), i % W - (ow * SW - PW)
                    if down < 0 or down % DH or down // DH >= KH:
                        return False
                    if right < 0 or right % DW or right // DW >= KW:
                        return False
    return True
