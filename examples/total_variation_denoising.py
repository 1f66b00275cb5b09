"""Denoise a photograph: descend 1/2 |u - f|^2 + weight TV(u), seed 000, equations 8 and 9.

Beside it scikit-image's denoise_tv_chambolle, which minimises the same energy by the dual.
"""

import time

import numpy as np
import pictures

from nbprop import nn, optim


def energy(u, noisy, weight):
    """The energy without smoothing, for comparison."""
    return 0.5 * np.sum((u - noisy) ** 2) + weight * nn.TotalVariationLoss()(u[None, None])


def descend(noisy, weight, steps, eps=0.001):
    """Gradient descent with Nesterov's momentum; eps smooths the corner of the root, so that slopes are bounded."""
    image = nn.Parameter(noisy[None, None])
    variation = nn.TotalVariationLoss(eps=eps)
    # |second derivatives| are at most 1 and weight 8 / eps: the step below is stable.
    descent = optim.SGD([image], lr=1 / (1 + 8 * weight / eps), momentum=0.9, nesterov=True)
    for _ in range(steps):
        variation.forward(image.data)
        image.grad[...] = image.data - noisy + variation.backward(weight)
        descent.step()
    return image.data[0, 0]


def main():
    args = pictures.arguments(__doc__, "total_variation_denoising.png", pictures.PHOTOGRAPHS)
    from skimage import data
    from skimage.restoration import denoise_tv_chambolle

    clean = data.camera()[60:316, 100:356] / 255
    clean, steps = (clean[:64, :64], 60) if args.quick else (clean, 300)
    noisy = clean + np.random.default_rng(0).normal(0, 0.1, clean.shape)
    weight, results = 0.1, {"noisy": (noisy, 0.0)}
    for name, method in (("nbprop", lambda: descend(noisy, weight, steps)),
                         ("scikit-image", lambda: denoise_tv_chambolle(noisy, weight, 1e-6, steps))):  # fmt: skip
        method()  # compiles
        begun = time.perf_counter()
        results[name] = method(), time.perf_counter() - begun
    print(f"{'':<14}{'energy':>10}{'PSNR':>8}{'seconds':>10}")
    for name, (image, seconds) in results.items():
        psnr = -10 * np.log10(np.mean((image - clean) ** 2))
        print(f"{name:<14}{energy(image, noisy, weight):>10.2f}{psnr:>8.2f}{seconds:>10.3f}")
    pictures.write(args.out, [[("clean", clean), *((name, image) for name, (image, _) in results.items())]])


if __name__ == "__main__":
    main()
