"""Losses: objects that keep the gradient of their last value."""

from types import SimpleNamespace

import numpy as np

from nbprop import layout, shapes, tape
from nbprop.defer import looks_not, puts_off
from nbprop.ops import cross_entropy, pointwise_loss
from nbprop.repeat import Repeated

__all__ = [
    "BCEWithLogitsLoss",
    "CrossEntropyLoss",
    "EuclideanLoss",
    "HuberLoss",
    "L1Loss",
    "MSELoss",
    "PointwiseLoss",
]

_AS_TORCH = ("mean", "sum", "none")
_PLANS = 4  # shapes to keep buffers for, as Module does


class Loss:
    """A number from an output and a target, and its gradient by the output.

    `forward` computes both at once; `backward` returns the gradient of the last forward, in a buffer that the
    next one overwrites. Calling the loss, `loss(output, target)`, returns only the value.
    """

    _entered = None, None  # how the last arrays looked that `enter` let through as they were, and their plan

    def __call__(self, output, target):
        return self._value(self.forward(output, target))

    def _value(self, value):
        """Return what `forward` returned as a caller keeps it."""
        if isinstance(value, float) or not hasattr(value, "copy"):
            return value
        return value.copy("K") if getattr(self, "reduction", None) == "none" else value.item()

    def forward(self, output, target):
        """Return the loss as a float, on the GPU an array of one; for reduction "none" an array of them.

        Cross entropy returns an array of one too where launches are put off (see defer.py), NaN if a target is bad.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define forward(output, target)")

    def backward(self, dy=1.0):
        """Return the gradient by the output, times dy, the gradient by the loss."""
        raise NotImplementedError(f"{type(self).__name__} does not define backward(dy)")

    def enter(self, check, output, target, *options):
        """Return the arrays as `check(output, target, *options)` returns them, and their plan.

        Arrays that look like the last ones are let through at once.
        """
        looks, (before, p) = (layout.look(output), layout.look(target)), self._entered
        if looks == before:
            return output, target, p
        came, (output, target) = (output, target), check(output, target, *options)
        as_they_came = output is came[0] and target is came[1]
        p = self.plan(output)
        self._entered = (looks if as_they_came and None not in looks else None), p
        return output, target, p

    def plan(self, output):
        """Return the buffers for arrays like `output`, made at the first of that shape and dtype."""
        key = (output.shape, output.dtype, type(output))
        plans = self.__dict__.setdefault("_plans", {})
        if key not in plans:
            made = self.allocate(output)
            if len(plans) == _PLANS:
                del plans[next(iter(plans))]
            plans[key] = made
        return plans[key]


class CrossEntropyLoss(Loss):
    """Cross entropy of softmax(logits) (`ops.cross_entropy.cross_entropy_forward`), as torch.nn's.

    On the GPU nothing waits for a check of the target: where it is bad the loss is NaN.

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
        like = np.empty((0, 1 if weight is None else len(weight)))
        cross_entropy.check_options(like, weight, ignore_index, reduction, label_smoothing)
        self.weight = weight
        self.ignore_index, self.reduction, self.label_smoothing = ignore_index, reduction, label_smoothing

    def allocate(self, logits):
        options = self.ignore_index, self.reduction, self.label_smoothing
        weight = cross_entropy.check_options(logits, self.weight, *options)
        buffers = cross_entropy.buffers(logits, self.reduction)
        twin = SimpleNamespace(**{name: Repeated("cross_entropy", name).run for name in cross_entropy.LAUNCHED})
        return SimpleNamespace(options=(weight, *options), buffers=buffers, twin=twin)

    @looks_not
    def forward(self, logits, target):
        logits, target, p = self.enter(cross_entropy.check_arguments, logits, target)
        self._last = p
        cross_entropy.launch(p.twin, logits, target, *p.options, p.buffers)
        several = self.reduction == "none"
        loss = p.buffers.losses if several else p.buffers.value
        if p.buffers.on_gpu or (puts_off() and not several):
            return loss
        tape.flush()
        cross_entropy.refuse(target, *p.options[:2], p.buffers)
        return loss if several else loss.item()

    @looks_not
    def backward(self, dy=1.0):
        p = self._last.buffers
        cross_entropy.times(p.dlogits, dy, p.losses, self.reduction)
        return p.dlogits


class PointwiseLoss(Loss):
    """Sum or mean of a function of single elements.

    Parameters
    ----------
    pair : nbprop.ops.pointwise_loss.LossPair
    *parameters : float
        What the pair's functions take after y and target.
    reduction : str
        "mean", "sum", "none" or "batchmean".
    """

    def __init__(self, pair, *parameters, reduction="mean"):
        pointwise_loss.check_reduction(reduction)
        self.pair, self.parameter_values, self.reduction = pair, parameters, reduction

    def allocate(self, y):
        return SimpleNamespace(losses=pointwise_loss.buffers(y, self.reduction), dy=layout.empty_like(y))

    def forward(self, y, target):
        y, target, p = self.enter(pointwise_loss.check_arguments, y, target, self.reduction)
        self._last = p
        arguments = self.pair, self.parameter_values, y, target, self.reduction
        return pointwise_loss.evaluate(*arguments, p.losses, p.dy)

    def backward(self, dy=1.0):
        p = self._last
        if not isinstance(dy, (int, float)) and dy.ndim:
            shapes.check_shape("dy", dy, p.losses.shape if self.reduction == "none" else ())
        layout.multiply(p.dy, dy)
        return p.dy


class MSELoss(PointwiseLoss):
    """(y - target)^2, as torch.nn's.

    Parameters
    ----------
    reduction : str
        "mean", "sum" or "none".
    """

    def __init__(self, *, reduction="mean"):
        pointwise_loss.check_reduction(reduction, _AS_TORCH)
        super().__init__(pointwise_loss.SQUARED, reduction=reduction)


class EuclideanLoss(PointwiseLoss):
    """1/(2N) sum (y - target)^2 over N samples, as Caffe's (seed 000, 5.1); gradient (y - target) / N."""

    def __init__(self):
        super().__init__(pointwise_loss.HALF_SQUARED, reduction="batchmean")


class L1Loss(PointwiseLoss):
    """|y - target|, with slope 0 at 0, as torch.nn's.

    Parameters
    ----------
    reduction : str
        "mean", "sum" or "none".
    """

    def __init__(self, *, reduction="mean"):
        pointwise_loss.check_reduction(reduction, _AS_TORCH)
        super().__init__(pointwise_loss.ABSOLUTE, reduction=reduction)


class HuberLoss(PointwiseLoss):
    """d^2 / 2 where d = |y - target| is at most delta, else delta (d - delta / 2), as torch.nn's.

    Parameters
    ----------
    reduction : str
        "mean", "sum" or "none".
    delta : float
        Above 0.
    """

    def __init__(self, reduction="mean", delta=1.0):
        pointwise_loss.check_reduction(reduction, _AS_TORCH)
        if not delta > 0:
            raise ValueError(f"delta is {delta!r}; expected a number above 0")
        super().__init__(pointwise_loss.HUBER, delta, reduction=reduction)


class BCEWithLogitsLoss(PointwiseLoss):
    """-t log p - (1 - t) log(1 - p) with p = 1 / (1 + e^-y), computed without p, as torch.nn's.

    Parameters
    ----------
    reduction : str
        "mean", "sum" or "none".
    """

    def __init__(self, *, reduction="mean"):
        pointwise_loss.check_reduction(reduction, _AS_TORCH)
        super().__init__(pointwise_loss.BCE_WITH_LOGITS, reduction=reduction)
