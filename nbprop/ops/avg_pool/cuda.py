"""Average pooling on the GPU: a thread per window forward, per position of dx backward."""

from nbprop.ops.cuda_windows import REGULAR, from_windows, regular, sums


def avg_pool2d_forward(x, y, kernel, stride, padding, count_include_pad, divisor):
    axes = regular(x.shape[2:], y.shape[2:], kernel, stride, padding, padded=count_include_pad)
    sums(REGULAR, axes, x, y, divisor, False)


def avg_pool2d_backward(dy, dx, kernel, stride, padding, count_include_pad, divisor):
    axes = regular(dx.shape[2:], dy.shape[2:], kernel, stride, padding, padded=count_include_pad)
    from_windows(REGULAR, axes, dy, dx, divisor, False)
