"""Max unpooling on channels-last memory: tasks are blocks of channels of one image: none share a place.

Backward first writes to each position which element stands there, the last one last; an element that does not
find itself there was replaced. Positions that no element has are neither written nor read.
"""

import numpy as np

from nbprop import jit
from nbprop.ops import flat

_LANES = 16  # channels of a block, where images alone do not make enough tasks


@jit.driver
def _place_blocks(x, indices, y, images, width, task, tasks):
    """Fill a task's blocks, each `width` channels of one image; `images` is how many there are."""
    C = x.shape[1]
    O, P = x.shape[0] // images, y.shape[0] // images
    blocks = (C + width - 1) // width
    begin, end = flat.share(images * blocks, task, tasks)
    for block in range(begin, end):
        n, first = block // blocks, block % blocks * width
        last = min(first + width, C)
        y[n * P : (n + 1) * P, first:last] = 0
        for o in range(n * O, (n + 1) * O):
            for c in range(first, last):
                y[np.uintp(n * P + indices[o, c]), c] = x[o, c]


def max_unpool2d_forward(x, indices, y):
    _run(_place_blocks, y, flat.rows(x), flat.rows(indices), flat.rows(y))


@jit.driver
def _take_blocks(dy, indices, owners, dx, images, width, task, tasks):
    """Gather a task's blocks of dx."""
    C = dx.shape[1]
    O, P = dx.shape[0] // images, dy.shape[0] // images
    blocks = (C + width - 1) // width
    begin, end = flat.share(images * blocks, task, tasks)
    zero = dx.dtype.type(0)
    for block in range(begin, end):
        n, first = block // blocks, block % blocks * width
        last = min(first + width, C)
        for o in range(n * O, (n + 1) * O):
            for c in range(first, last):
                owners[np.uintp(n * P + indices[o, c]), c] = o - n * O
        for o in range(n * O, (n + 1) * O):
            for c in range(first, last):
                p = np.uintp(n * P + indices[o, c])
                dx[o, c] = dy[p, c] if owners[p, c] == o - n * O else zero


def max_unpool2d_backward(dy, indices, owners, dx):
    _run(_take_blocks, dy, flat.rows(dy), flat.rows(indices), flat.rows(owners), flat.rows(dx))


def _run(kernel, plane, *arrays):
    N, C = plane.shape[:2]
    threads = flat.tasks(plane.size)
    width = max(C, 1) if threads <= N else _LANES
    kernel(*arrays, max(N, 1), width, threads)
