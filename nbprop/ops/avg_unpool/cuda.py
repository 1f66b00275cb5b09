"""Average unpooling on the GPU: average pooling's two passes with forward and backward exchanged."""

from nbprop.ops.cuda_windows import REGULAR, from_windows, regular, sums


def avg_unpool2d_forward(x, y, kernel, stride, padding, copy):
    from_windows(REGULAR, regular(y.shape[2:], x.shape[2:], kernel, stride, padding), x, y, 0, copy)


def avg_unpool2d_backward(dy, dx, kernel, stride, padding, copy):
    sums(REGULAR, regular(dy.shape[2:], dx.shape[2:], kernel, stride, padding), dy, dx, 0, copy)
