"""Zeros between the rows and columns of delta, as seed 003, section 3.2, inserts them."""

from nbprop import jit


@jit.reference
def dilated_delta_forward(dy, delta, stride, border):
    N, O, OH, OW = dy.shape
    (SH, SW), (BH, BW) = stride, border
    delta[...] = 0
    for n in range(N):
        for o in range(O):
            for oh in range(OH):
                for ow in range(OW):
                    delta[n, o, BH + oh * SH, BW + ow * SW] = dy[n, o, oh, ow]


@jit.reference
def dilated_delta_backward(ddelta, ddy, stride, border):
    N, O, OH, OW = ddy.shape
    (SH, SW), (BH, BW) = stride, border
    for n in range(N):
        for o in range(O):
            for oh in range(OH):
                for ow in range(OW):
                    ddy[n, o, oh, ow] = ddelta[n, o, BH + oh * SH, BW + ow * SW]
