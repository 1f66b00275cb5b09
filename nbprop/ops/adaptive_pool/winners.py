"""Check indices that a caller brings: a kernel trusts them."""

from nbprop import jit
from nbprop.ops.adaptive_pool.bounds import window


@jit.kernel
def all_in_their_windows(indices, H, W):
    """Say whether each of indices (N, OH, OW, C) is a position of its window."""
    N, OH, OW, C = indices.shape
    for n in range(N):
        for oh in range(OH):
            top, bottom = window(oh, H, OH)
            for ow in range(OW):
                left, right = window(ow, W, OW)
                for c in range(C):
                    h, w = divmod(indices[n, oh, ow, c], W)
                    if not (top <= h < bottom and left <= w < right):
                        return False
    return True
