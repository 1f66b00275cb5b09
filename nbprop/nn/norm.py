"""Batch, instance and group norm, and MVN: one op over different groups of values."""

from types import SimpleNamespace

import numpy as np

from nbprop import backend, layout, shapes, tape
from nbprop.defer import looks_not
from nbprop.lent import Lent
from nbprop.nn.module import Module, Parameter, as_input
from nbprop.ops.norm.deviation import DIVISORS
from nbprop.repeat import Repeated

__all__ = ["MVN", "BatchNorm2d", "GroupNorm", "InstanceNorm2d"]


class _Norm(Module):
    """Shared by the four layers: groups, divisor, an optional affine part, running statistics."""

    ranks = (4,)

    def __init__(self, channels, groups, over_batch, eps, affine, dtype, divisor=DIVISORS[0]):
        self.channels, self.groups, self.over_batch = channels, groups, over_batch
        self.eps, self.divisor = shapes.not_negative("eps", eps), DIVISORS.index(divisor)
        self.weight = Parameter(np.ones(channels, dtype)) if affine else None
        self.bias = Parameter(np.zeros(channels, dtype)) if affine else None
        self.running_mean = None

    def _track(self, channels, momentum, track_running_stats, dtype):
        if momentum is not None:
            momentum = shapes.probability("momentum", momentum)
        self.momentum, self.track_running_stats = momentum, bool(track_running_stats)
        if track_running_stats:
            self.state = ("running_mean", "running_var", "num_batches_tracked")
            self.running_mean, self.running_var = np.zeros(channels, dtype), np.ones(channels, dtype)
            self.num_batches_tracked = np.array(0, np.int64)

    @property
    def fixed(self):
        """Whether statistics are the running ones and not the input's own."""
        return not self.training and self.running_mean is not None

    def allocate(self, shape, dtype):
        C = shape[1]
        self._check(C, shape, dtype)
        y = layout.empty(shape, dtype)
        return SimpleNamespace(
            y=y, y4=_image(y), dx=Lent(shape, dtype), statistics={},
            ones=layout.full((C,), 1, dtype), zeros=layout.zeros((C,), dtype),
        )  # fmt: skip

    def _check(self, C, shape, dtype):
        if self.channels not in (None, C):
            raise ValueError(f"x has {C} channels (shape {tuple(shape)}); expected {self.channels}")
        if self.weight is not None and dtype != self.weight.dtype:
            raise ValueError(f"x has dtype {dtype}; expected {self.weight.dtype}, as the weights have")

    @looks_not
    def forward(self, x, relu=False, added=None):
        """Return the output, plus `added` if given, with `relu` the positive part of that: containers ask for it."""
        x, p = self.enter(x, self.ranks)
        if added is not None:
            added = _image(_like(x, added))
        x = _image(x)
        fixed = self.fixed
        B, G = shapes.norm2d(x.shape, self.groups, self.over_batch or fixed, fixed)
        twin = backend.twin("norm", x)
        s = _statistics(p, twin, x, B, G)
        if fixed:
            tape.flush()
            s.mean[0], s.variance[0] = self.running_mean, self.running_var
            twin.norm_divisors(s.variance, self.eps, self.divisor, s.rstd, s.pull)
            twin.norm_forward(x, *self._affine(p), s.mean, s.rstd, added, relu, p.y4, s.work)
        else:
            statistics = s.mean, s.variance, s.rstd, s.pull
            s.forward.run(x, *self._affine(p), self.eps, self.divisor, added, relu, *statistics, p.y4, s.work)
            if self.training and self.running_mean is not None and x.size:
                s.remember.run(s.mean, s.variance, self._share(), s.unbiased, self.running_mean, self.running_var)
        self._last = p, s, x, twin, fixed, added is not None  # `backward` cannot make such an output again
        return p.y

    def _affine(self, p):
        return (p.ones, p.zeros) if self.weight is None else (self.weight.data, self.bias.data)

    def _share(self):
        return self.momentum

    @looks_not
    def backward(self, dy, input_gradient=True, relu=False):
        """Return dx; with `relu`, dy is what the ReLU behind was given: containers then leave out its own pass.

        Its slope is taken at the output that the parameters, as they are now, make of x: leave them between the passes.
        """
        p, s, x, twin, fixed, adds = self._last
        if relu and adds:
            raise ValueError("relu is True behind a forward pass with `added`; expected False: run the ReLU's own pass")
        dy, affine = _image(self.receive(dy, p.y)), self._affine(p)
        dx = p.dx.take() if input_gradient else None
        if input_gradient and not fixed:
            s.backward.run(dy, x, *affine, s.mean, s.rstd, s.pull, relu, s.sums, _image(dx), s.work)
        elif self.weight is not None:
            twin.norm_backward_sums(dy, x, *affine, s.mean, s.rstd, relu, s.sums, s.work)
        if input_gradient and fixed:
            twin.norm_backward_input(dy, x, *affine, s.mean, s.rstd, s.pull, s.sums, True, relu, _image(dx), s.work)
        if self.weight is not None:
            s.backward_weight.run(s.sums, s.rstd, self.weight.grad, self.bias.grad)
        return dx


def _image(x):
    """View (N, C) as (N, C, 1, 1)."""
    return x.reshape(*x.shape, 1, 1) if x.ndim == 2 else x


def _like(x, added):
    """Return an array that is added to the output for x, checked and in memory order."""
    added = shapes.check_array("added", added)
    shapes.check_shape("added", added, x.shape)
    shapes.check_same_dtype(x=x, added=added)
    return as_input(added)


def _statistics(p, twin, x, B, G):
    """Return a plan's buffers for the statistics of B blocks, allocated at their first use."""
    if (B, twin) not in p.statistics:
        mean, variance, rstd, pull = layout.empty((4, B, G), np.float64, x)
        m = x.size // max(mean.size, 1)  # values of a group
        p.statistics[B, twin] = SimpleNamespace(
            forward=Repeated("norm", "norm_forward_own"), remember=Repeated("norm", "norm_remember"),
            backward=Repeated("norm", "norm_backward_own"), backward_weight=Repeated("norm", "norm_backward_weight"),
            mean=mean, variance=variance, rstd=rstd, pull=pull, sums=layout.empty((2, B, x.shape[1]), np.float64, x),
            unbiased=m / max(m - 1, 1), work=twin.workspace(x.shape, B, x.dtype),
        )  # fmt: skip
    return p.statistics[B, twin]


class BatchNorm2d(_Norm):
    """Normalise each channel over the batch, then scale and shift it: `ops.norm.norm_forward`.

    In training with the batch's own statistics, which move the running ones; in evaluation with these.

    Parameters
    ----------
    num_features : int
        C.
    eps : float
        Added to the variance.
    momentum : float or None
        The share of a batch in the running statistics; None for the mean of all batches.
    affine : bool
        Whether a weight and a bias per channel are learned.
    track_running_stats : bool
        Keep `running_mean`, `running_var` (unbiased) and `num_batches_tracked`, as part of the state; else
        evaluation takes the batch's own statistics, too.
    dtype : numpy dtype
        float32 or float64.

    Notes
    -----
    An empty batch leaves the running statistics as they are. Source: Ioffe and Szegedy 2015, algorithms 1, 2.
    """

    def __init__(self, num_features, eps=1e-5, momentum=0.1, affine=True, track_running_stats=True,
                 dtype=np.float32):
        C = shapes.integer("num_features", num_features, 1)
        super().__init__(C, C, True, eps, affine, dtype)
        self._track(C, momentum, track_running_stats, dtype)

    def _share(self):
        self.num_batches_tracked += 1
        return 1 / int(self.num_batches_tracked) if self.momentum is None else self.momentum


class InstanceNorm2d(_Norm):
    """Normalise each channel of each image: `ops.norm.norm_forward` (seed 000, section 3.5).

    Parameters
    ----------
    num_features : int
        C.
    eps : float
        Added to the variance.
    momentum : float
        The share of a batch in the running statistics.
    affine : bool
        Whether a weight and a bias per channel are learned.
    track_running_stats : bool
        Keep the running means of the images' means and unbiased variances, and evaluate with them. As in
        torch, `num_batches_tracked` is in the state and is not counted.
    dtype : numpy dtype
        float32 or float64.

    Notes
    -----
    A map of 1 x 1 has nothing to normalise and is refused, as in torch.
    """

    def __init__(self, num_features, eps=1e-5, momentum=0.1, affine=False, track_running_stats=False,
                 dtype=np.float32):
        C = shapes.integer("num_features", num_features, 1)
        super().__init__(C, C, False, eps, affine, dtype)
        if momentum is None:
            raise ValueError("momentum is None; expected a number from 0 to 1")
        self._track(C, momentum, track_running_stats, dtype)


class GroupNorm(_Norm):
    """Normalise groups of neighbouring channels of each image: `ops.norm.norm_forward`.

    Parameters
    ----------
    num_groups : int
        G, a divisor of `num_channels`.
    num_channels : int
        C. The input is (N, C) or (N, C, H, W).
    eps : float
        Added to the variance.
    affine : bool
        Whether a weight and a bias per channel are learned.
    dtype : numpy dtype
        float32 or float64.

    Notes
    -----
    A group of one value has nothing to normalise and is refused. Source: Wu and He 2018, section 3.
    """

    ranks = (2, 4)

    def __init__(self, num_groups, num_channels, eps=1e-5, affine=True, dtype=np.float32):
        G, C = shapes.integer("num_groups", num_groups, 1), shapes.integer("num_channels", num_channels, 1)
        if C % G:
            raise ValueError(f"num_groups is {G}; expected a divisor of num_channels {C}")
        super().__init__(C, G, False, eps, affine, dtype)


class MVN(_Norm):
    """Mean-variance normalisation in Caffe's form (seed 000, section 3.5).

        y = (x - mean) / (sqrt(v) + eps)

    Parameters
    ----------
    normalize_variance : bool
        Divide by the standard deviation; else only subtract the mean.
    across_channels : bool
        Take mean and variance v of a whole image, not of each of its channels.
    eps : float
        Added to the standard deviation.

    Notes
    -----
    Where all values are equal, v = 0 and sqrt has no slope: the gradient is then that of the mean alone.
    """

    def __init__(self, normalize_variance=True, across_channels=False, eps=1e-9):
        divisor = "sqrt(v) + eps" if normalize_variance else "1"
        super().__init__(None, 1 if across_channels else None, False, eps, False, None, divisor)
