"""Losses: objects that keep the gradient of their last value."""

from types import SimpleNamespace

import numpy as np

from nbprop.ops import cross_entropy

__all__ = ["CrossEntropyLoss"]

_PLANS = 4  # shapes to keep buffers for, as Module does


class Loss:
    """A number from an output and a target, and its gradient by the output.

    `forward` computes both at once; `backward` returns the gradient of the last forward, in a buffer that the
    next one overwrites. Calling the loss, `loss(output, target)`, returns only the value.
    """

    def __call__(self, output, target):
        return np.copy(value) if isinstance(value := self.forward(output, target), np.ndarray) else value

    def forward(self, output, target):
        """Return the loss as a float (an array for reduction "none")."""
        raise NotImplementedError(f"{type(self).__name__} does not define forward(output, target)")

    def backward(self, dy=1.0):
        """Return the gradient by the output, times dy, the gradient by the loss."""
        raise NotImplementedError(f"{type(self).__name__} does not define backward(dy)")

    def plan(self, output):
        """Return the buffers for arrays like `output`, made at the first of that shape and dtype."""
        key = (output.shape, output.dtype)
        plans = self.__dict__.setdefault("_plans", {})
        if key not in plans:
            made = self.allocate(output)
            if len(plans) == _PLANS:
                del plans[next(iter(plans))]
            plans[key] = made
        return plans[key]


class CrossEntropyLoss(Loss):
    """Cross entropy of softmax(logits) (`ops.cross_entropy.cross_entropy_forward`), as torch.nn's.

    Parameters
    ----------
    weight : array (C,), optional
        Weight of each class.
    ignore_index : int
        A label that takes no part.
    reduction : str
        "mean", "sum" or "none".
    label_smoothing : float
        0 to 1.
    """

    def __init__(self, weight=None, *, ignore_index=-100, reduction="mean", label_smoothing=0.0):
        C = 1 if weight is None else len(weight)
        cross_entropy.check_options(C, np.float64, weight, ignore_index, reduction, label_smoothing)
        self.weight = weight
        self.ignore_index, self.reduction, self.label_smoothing = ignore_index, reduction, label_smoothing

    def allocate(self, logits):
        options = self.ignore_index, self.reduction, self.label_smoothing
        weight = cross_entropy.check_options(logits.shape[1], logits.dtype, self.weight, *options)
        losses, dlogits = cross_entropy.buffers(logits)
        return SimpleNamespace(options=(weight, *options), losses=losses, dlogits=dlogits)

    def forward(self, logits, target):
        logits, target = cross_entropy.check_arguments(logits, target)
        p = self._last = self.plan(logits)
        return cross_entropy.evaluate(logits, target, *p.options, p.losses, p.dlogits)

    def backward(self, dy=1.0):
        p = self._last
        cross_entropy.times(p.dlogits, dy, p.losses, self.reduction)
        return p.dlogits
