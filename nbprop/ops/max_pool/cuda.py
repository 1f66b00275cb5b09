"""Max pooling on the GPU: a thread per window forward, per position of dx backward."""

from nbprop.ops.cuda_windows import REGULAR, from_winners, maxima, regular


def max_pool2d_forward(x, y, indices, kernel, stride, padding, dilation):
    maxima(REGULAR, regular(x.shape[2:], y.shape[2:], kernel, stride, padding, dilation), x, y, indices)


def max_pool2d_backward(dy, indices, y, dx, kernel, stride, padding, dilation):
    from_winners(REGULAR, regular(dx.shape[2:], dy.shape[2:], kernel, stride, padding, dilation), dy, indices, y, dx)
