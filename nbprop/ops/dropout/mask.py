"""Random 32-bit numbers by position: a hash of seed, step and element index, with no state between elements.

Elements are counted in memory order (N, H, W, C for a map) and taken in blocks of 4096. A block's 64-bit key
is a chain of splitmix64 finalizers; within a block each element's 32-bit hash has the lanes of float32.
"""

import numpy as np

from nbprop import jit

__all__ = ["BLOCK", "block_key", "draw", "drop_below"]

BLOCK = 4096


@jit.scalar
def _mix64(z):
    # Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators": splitmix64.
    z = z + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@jit.scalar
def block_key(seed, step, block):
    """Return the two halves of the key of a block of elements."""
    key = _mix64(_mix64(_mix64(np.uint64(seed)) ^ np.uint64(step)) ^ np.uint64(block))
    return np.uint32(key & np.uint64(0xFFFFFFFF)), np.uint32(key >> np.uint64(32))


@jit.scalar
def draw(low, high, j):
    """Return element j's number: a Weyl sequence through a 32-bit finalizer (Wellons's lowbias32 form)."""
    h = np.uint32(np.uint32(j) * np.uint32(0x9E3779B9) + low)
    h = np.uint32((h ^ (h >> np.uint32(16))) * np.uint32(0x21F0AAAD))
    h = np.uint32(h ^ high)
    h = np.uint32((h ^ (h >> np.uint32(15))) * np.uint32(0x735A2D97))
    return np.uint32(h ^ (h >> np.uint32(15)))


@jit.scalar
def drop_below(p):
    """Return the number below which a draw drops its element: p of all 2**32."""
    return np.uint32(min(p * 4294967296.0, 4294967295.0))
