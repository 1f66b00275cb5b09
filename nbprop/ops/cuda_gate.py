"""ReLU's backward pass behind a product's on the GPU: one grid-stride pass, in place."""

from nbprop import gpu
from nbprop.gpu import cuda
from nbprop.ops.flat import flat
from nbprop.ops.through_relu import relu_slope

__all__ = ["gate"]


def gate(dx, x):
    """Multiply dx by the slope of the ReLU whose output x is, if there is one."""
    if x is not None and x.size:
        _gate[gpu.blocks(x.size), gpu.THREADS](flat(dx), flat(x))


@gpu.kernel
def _gate(dx, x):
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        dx[i] *= relu_slope(x[i])
