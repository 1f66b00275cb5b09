from cuda_cases import Work, a, public, twin, weights
from cuda_cases.conv import SMALL
from nbprop.shapes import conv2d

X, W = (2, 2, 4, 3), (3, 2, 3, 2)
G = conv2d(X, W, stride=2, padding=1)
Y = G.N, G.O, G.OH, G.OW

CASES = [
    twin("conv_flip", "forward", a(*X), weights(*W), a(3), a(*Y), G, Work(G), constants=SMALL),
    twin("conv_flip", "backward_input", a(*Y), weights(*W), a(*X), G, Work(G), constants=SMALL),
    twin("conv_flip", "backward_weight", a(*Y), a(*X), weights(*W), a(3), G, Work(G), constants=SMALL),
    public("conv_flip", "conv2d_flip_forward", a(*X), a(*W), constants=SMALL),
]
