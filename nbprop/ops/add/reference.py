"""Addition, one element after the other."""

from nbprop import jit
from nbprop.ops.flat import flat


def add_forward(a, b, y, relu):
    _add(flat(a), flat(b), flat(y), relu)


@jit.reference
def _add(a, b, y, relu):
    for i in range(y.size):
        y[i] = a[i] + b[i]
        if relu and y[i] < 0:
            y[i] = 0
