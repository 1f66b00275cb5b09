"""How the fast norms cut an array into chunks: by its shape alone, so that sums never depend on threads.

Memory is B blocks (the batch, or its images) of R rows (pixels) of C channels:

    block b   | row row row row | row row row row | ...     tile = q rows, T = q C elements
              |------ tile -----|------ tile -----|
              |----- chunk 0: some tiles ---| chunk 1 ...   tasks share the chunks of all blocks

Kernels walk over tiles and keep one sum per element of the tile, so that vectors are full with 3 channels,
too; q is a power of two, so that halving a tile until C are left adds up each channel.
"""

from typing import NamedTuple

__all__ = ["Cut", "cut"]

_TILE = 256  # elements: several vectors of any width
_CHUNK = 1 << 14  # elements that are worth a chunk
_CHUNKS = 64  # enough for many cores; each has sums of its own


class Cut(NamedTuple):
    """B blocks of R rows of C elements; tiles of T elements; K chunks per block, each of `step` elements."""

    B: int
    R: int
    C: int
    T: int
    K: int
    step: int


def cut(shape, B):
    """Cut an array (N, C, H, W) whose statistics are per image (B = N) or over the batch (B = 1)."""
    N, C, H, W = shape
    R = N * H * W // B if B else 0
    q = 1
    while q * C < _TILE:
        q *= 2
    tiles = -(-R // q)
    K = max(1, min(_CHUNKS // max(B, 1), R * C // _CHUNK, tiles))
    return Cut(B, R, C, q * C, K, -(-tiles // K) * q * C)
