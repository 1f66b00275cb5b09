"""Insertion of zeros on the GPU: each element looks whether one of dy stands there."""

from nbprop import gpu, layout
from nbprop.gpu import cuda


def dilated_delta_forward(dy, delta, stride, border):
    if delta.size:
        _insert[gpu.blocks(delta.size), gpu.THREADS](layout.nhwc(dy), layout.nhwc(delta), stride, border)


def dilated_delta_backward(ddelta, ddy, stride, border):
    if ddy.size:
        _pick[gpu.blocks(ddy.size), gpu.THREADS](layout.nhwc(ddelta), layout.nhwc(ddy), stride, border)


@gpu.kernel
def _insert(dy, delta, stride, border):
    (SH, SW), (BH, BW) = stride, border
    _, OH, OW, _ = dy.shape
    _, H, W, O = delta.shape
    for i in range(cuda.grid(1), delta.size, cuda.gridsize(1)):
        o, rest = i % O, i // O
        right, rest = rest % W - BW, rest // W
        down, n = rest % H - BH, rest // H
        there = down >= 0 and down % SH == 0 and down // SH < OH and right >= 0 and right % SW == 0 and right // SW < OW
        delta[n, down + BH, right + BW, o] = dy[n, down // SH, right // SW, o] if there else 0


@gpu.kernel
def _pick(ddelta, ddy, stride, border):
    (SH, SW), (BH, BW) = stride, border
    _, OH, OW, O = ddy.shape
    for i in range(cuda.grid(1), ddy.size, cuda.gridsize(1)):
        o, rest = i % O, i // O
        ow, rest = rest % OW, rest // OW
        oh, n = rest % OH, rest // OH
        ddy[n, oh, ow, o] = ddelta[n, BH + oh * SH, BW + ow * SW, o]
