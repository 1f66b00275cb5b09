from cuda_cases import Work, a, public, twin, weights
from cuda_cases.conv import FULL, SMALL
from nbprop.shapes import conv_transpose2d


def passes(x, w, relu=False, full=False, **sizes):
    g = conv_transpose2d(x, w, **sizes)
    y = g.N, g.C, g.H, g.W
    options = {"constants": SMALL, **(FULL if full else {})}
    return (
        twin("conv_transpose", "forward", a(*x), weights(*w), a(g.C), a(*y), g, relu, Work(g), **options),
        twin("conv_transpose", "backward_input", a(*y), weights(*w), None, a(*x), g, Work(g), **options),
        twin("conv_transpose", "backward_weight", a(*y), a(*x), weights(*w), a(g.C), g, Work(g), **options),
    )


CASES = [
    *passes((2, 3, 3, 2), (3, 5, 3, 2), stride=2, padding=1, output_padding=1, relu=True),
    *passes((1, 4, 3, 3), (4, 2, 2, 2), groups=2, dilation=2),
    public("conv_transpose", "conv_transpose2d_forward", a(1, 4, 2, 2), a(4, 2, 2, 2), constants=SMALL),
    *passes((8, 128, 14, 14), (128, 64, 4, 4), stride=2, padding=1, full=True),
]
