"""Total variation as a loss without a target."""

from types import SimpleNamespace

import numpy as np

from nbprop import layout
from nbprop.nn.loss import Loss
from nbprop.ops import tv
from nbprop.shapes import check_shape

__all__ = ["TotalVariationLoss"]


class TotalVariationLoss(Loss):
    """The sum of the lengths of an image's gradients (seed 000, equations 8 and 9): small where it is smooth.

    Parameters
    ----------
    anisotropic : bool
        Add the two differences' lengths instead of taking the root of their squares' sum.
    eps : float
        Smooths the corner of the root at 0.
    reduction : str
        "sum", "mean" over all elements, "batchmean" (the sum over N), or "none": one value per image.
    """

    def __init__(self, anisotropic=False, eps=0.0, reduction="sum"):
        tv.check_options(eps, reduction)
        self.anisotropic, self.eps, self.reduction = bool(anisotropic), float(eps), reduction

    def __call__(self, x):
        return self._value(self.forward(x))

    def allocate(self, x):
        dx, *rest = tv.buffers(x, self.reduction)
        return SimpleNamespace(dx=dx, rest=rest)

    def forward(self, x):
        x = tv.check_arguments(x, self.eps, self.reduction)
        p = self._last = self.plan(x)
        return tv.evaluate(x, self.anisotropic, self.eps, self.reduction, p.dx, *p.rest)

    def backward(self, dy=1.0):
        p = self._last
        if np.ndim(dy):
            check_shape("dy", dy, (len(p.dx),) if self.reduction == "none" else ())
            dy = dy.reshape(-1, 1, 1, 1)
        layout.multiply(p.dx, dy)
        return p.dx
