"""How gradients vanish or explode on their way back, by depth and activation (seed 001).

A tower of equal layers with weights of variance gain^2 / width; the table holds the norm of the first layer's
gradient when that of the output has norm 1.
"""

import argparse

import numpy as np

import nbprop
from nbprop import nn

ACTIVATIONS = {
    "Sigmoid": (nn.Sigmoid, 1.0),
    "Tanh": (nn.Tanh, 1.0),
    "ReLU": (nn.ReLU, 1.0),
    "ReLU, He's weights": (nn.ReLU, 2**0.5),
    "ReLU, weights x 2": (nn.ReLU, 2.0),
}


def tower(activation, gain, depth, width, rng):
    layers = []
    for _ in range(depth):
        linear = nn.Linear(width, width)
        linear.weight.data[...] = rng.normal(0, gain / width**0.5, (width, width))
        linear.bias.data[...] = 0
        layers += [linear, activation()]
    return nn.Sequential(*layers)


def residual_tower(depth, width, rng):
    """The same, each layer beside a shortcut of gradient 1."""
    return nn.Sequential(*(nn.Residual(tower(nn.Tanh, 0.3, 1, width, rng)) for _ in range(depth)))


def first_norm(model, width, rng):
    y = model.forward(rng.normal(0, 1, (32, width)).astype(np.float32))
    dy = rng.normal(0, 1, y.shape).astype(np.float32)
    model.backward(dy / np.linalg.norm(dy))
    return next(iter(nbprop.gradient_norms(model).values()))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="less depth and width")
    depths, width = ((2, 8), 16) if parser.parse_args().quick else ((2, 5, 10, 20, 40), 128)
    rng = np.random.default_rng(0)
    print(f"{'':<20}" + "".join(f"{f'{depth} layers':>11}" for depth in depths))
    for name, (activation, gain) in ACTIVATIONS.items():
        norms = [first_norm(tower(activation, gain, depth, width, rng), width, rng) for depth in depths]
        print(f"{name:<20}" + "".join(f"{norm:>11.1e}" for norm in norms))
    norms = [first_norm(residual_tower(depth, width, rng), width, rng) for depth in depths]
    print(f"{'Tanh, Residual':<20}" + "".join(f"{norm:>11.1e}" for norm in norms))


if __name__ == "__main__":
    main()
