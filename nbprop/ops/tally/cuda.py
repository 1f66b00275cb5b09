"""Count a step on the GPU: one launch of one block."""

import functools

import numpy as np

from nbprop import gpu
from nbprop.gpu import cuda
from nbprop.ops.tally.ledger import enter


def count_step(value, rows, parts, y, target, ledger):
    _count_step(gpu.THREADS)[1, gpu.THREADS](value, rows, parts, y, target, ledger)


@functools.cache
def _count_step(threads):
    sum_of = gpu.reduction(gpu.add, threads, np.float64)

    @gpu.kernel
    def count_step(value, rows, parts, y, target, ledger):
        health = value[0] + sum_of(gpu.thread_sum(parts, threads))
        mine = 0.0
        for r in range(cuda.threadIdx.x, target.size, threads):
            best = 0
            for c in range(1, y.shape[1]):
                if y[r, c] > y[r, best]:
                    best = c
            mine += 1.0 if best == target[r] else 0.0
        correct = sum_of(mine)
        if cuda.threadIdx.x == 0:
            enter(ledger, value[0], rows, correct, health)

    return count_step
