from cuda_cases import a, public, twin
from nbprop.shapes import columns2d

X = (2, 3, 4, 3)
G = columns2d(X, (2, 3), (1, 1), (1, 1), (2, 1))

CASES = [
    twin("im2col", "im2col", a(*X), a(*G.columns_shape), G),
    twin("im2col", "col2im", a(*G.columns_shape), a(*X), G),
    public("im2col", "im2col", a(1, 2, 3, 3), 2),
    public("im2col", "col2im", a(1, 8, 4), 3, 2),
]
