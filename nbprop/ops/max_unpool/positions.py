"""Check positions that a caller brings: a kernel trusts them."""

from nbprop import jit


@jit.kernel
def first_outside(indices, size):
    """Return where indices (N, OH, OW, C) has its first value outside 0 .. size-1, or -1s."""
    N, OH, OW, C = indices.shape
    for n in range(N):
        for oh in range(OH):
            for ow in range(OW):
                if _any_outside(indices[n, oh, ow], size):
                    for c in range(C):
                        if not 0 <= indices[n, oh, ow, c] < size:
                            return n, oh, ow, c
    return -1, -1, -1, -1


@jit.kernel(reassoc=True)
def _any_outside(positions, size):
    found = 0
    for c in range(positions.size):
        found |= (positions[c] < 0) | (positions[c] >= size)
    return found
