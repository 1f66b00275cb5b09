import numpy as np

from cuda_cases import Work, a, public, twin, weights
from nbprop.ops.cuda_form import Tile
from nbprop.shapes import conv2d

WARP = {"cuda_tile.TILES": {4: (Tile(32, 16, 16, 4, 4),)}, "cuda_outer._PIXELS": 16}
SMALL = {"cuda_tile.TILES": {4: (Tile(16, 16, 4, 4, 4),)}, "cuda_outer._PIXELS": 8}

FULL = {"big": True, "dtypes": (np.float32,)}


def passes(x, w, relu=False, products="float32", **sizes):
    g = conv2d(x, w, **sizes)
    y = g.N, g.O, g.OH, g.OW
    options = {"constants": SMALL, **FULL} if x[0] * x[2] * x[3] > 999 else {"constants": SMALL}
    if products != "float32":
        options |= {"products": products, "constants": WARP}
    return (
        twin("conv", "forward", a(*x), weights(*w), a(g.O), a(*y), g, relu, Work(g), **options),
        twin("conv", "backward_input", a(*y), weights(*w), None, a(*x), g, Work(g), **options),
        twin("conv", "backward_weight", a(*y), a(*x), weights(*w), a(g.O), g, Work(g), **options),
    )


CASES = [
    *passes((2, 3, 5, 4), (5, 3, 3, 3), padding=1),
    *passes((1, 4, 5, 5), (8, 4, 2, 3), relu=True, stride=2, padding=1),
    *passes((2, 4, 4, 3), (6, 2, 2, 2), groups=2, dilation=(1, 2), padding=1),
    *passes((1, 5, 4, 4), (5, 1, 3, 3), groups=5, padding=1, stride=(1, 2), relu=True),
    *passes((2, 4, 3, 3), (4, 4, 1, 1)),
    *passes((1, 2, 4, 4), (3, 2, 1, 1), stride=3),
    public("conv", "conv2d_forward", a(1, 2, 3, 3), a(3, 2, 2, 2), constants=SMALL),
    public("conv", "conv2d_backward_weight", a(1, 3, 2, 2), a(1, 2, 3, 3), (3, 2, 2, 2), constants=SMALL),
    *passes((64, 64, 16, 16), (128, 64, 3, 3), padding=1),
    *passes((64, 32, 32, 32), (64, 32, 3, 3), padding=1, relu=True),
    *passes((64, 3, 32, 32), (32, 3, 3, 3), padding=1),
    *passes((64, 16, 32, 32), (32, 16, 3, 3), padding=1, stride=2),
    *passes((64, 6, 14, 14), (16, 6, 5, 5)),
    *passes((5, 33, 29, 17), (47, 33, 3, 3), padding=1),
    *passes((4, 64, 28, 28), (64, 1, 3, 3), groups=64, padding=1),
    *(case for products in ("tf32", "bf16") for x, w in (
        ((2, 4, 4, 5), (8, 4, 3, 3)), ((2, 3, 4, 4), (5, 3, 2, 2)),
        ((64, 64, 16, 16), (128, 64, 3, 3)), ((64, 32, 32, 32), (64, 32, 3, 3)), ((64, 64, 32, 32), (32, 64, 3, 3)),
    ) for case in passes(x, w, padding=1, relu=True, products=products)),
]
