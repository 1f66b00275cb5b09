"""Grow a texture from noise: match the Gram matrices of a network of random filters.

Equation 15 of seed 000 brings the difference of two Gram matrices back to the image. Random filters of several
sizes are enough (Ustyuzhaninov et al. 2016); nothing is trained but the image.
"""

import numpy as np
import pictures

import nbprop
from nbprop import nn, optim


def network(filters):
    """One layer of random filters for each size, borders wrapped around as textures have none."""
    return [nn.Sequential(nn.CircularPad2d(size // 2), nn.Conv2d(1, filters, size), nn.ReLU())
            for size in (3, 5, 7, 11)]  # fmt: skip


def synthesize(texture, filters, steps, rate):
    """Return the image made from noise, and the losses."""
    branches, gram = network(filters), nn.GramMatrix(normalize=True)
    targets = [gram(branch(texture)) for branch in branches]
    # A weight for each size, so that none drowns the others.
    scales = [1 / np.mean(target**2) for target in targets]
    style, losses = nn.StyleLoss(), []
    image = nn.Parameter(np.random.default_rng(0).normal(0, 0.3, texture.shape).astype(np.float32))
    descent = optim.Adam([image], rate)
    for _ in range(steps):
        image.grad[...] = 0
        losses.append(0.0)
        for branch, target, scale in zip(branches, targets, scales):
            losses[-1] += scale * style.forward(branch.forward(image.data), target)
            image.grad[...] += branch.backward(style.backward(scale))
        descent.step()
    return image.data, losses


def main():
    args = pictures.arguments(__doc__, "texture_synthesis.png", pictures.PHOTOGRAPHS)
    from skimage import data

    nbprop.manual_seed(0)
    size, filters, steps = (48, 8, 15) if args.quick else (128, 32, 200)
    texture = data.brick()[:size, :size].astype(np.float32)[None, None] / 255
    mean = texture.mean()
    image, losses = synthesize(texture - mean, filters, steps, 0.03)
    for step in (0, steps // 3, 2 * steps // 3, steps - 1):
        print(f"step {step + 1:>4}: loss {losses[step]:.5f}")
    pictures.write(args.out, [[("texture", texture[0, 0]), ("from noise", image[0, 0] + mean)]])


if __name__ == "__main__":
    main()
