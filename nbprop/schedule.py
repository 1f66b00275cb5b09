"""Learning-rate schedules: functions from the finished fraction of a training run to a factor of the rate.

    Trainer(model, loss, optimizer, schedule=schedule.cosine())
"""

import math

__all__ = ["constant", "cosine"]


def constant(done):
    """Leave the learning rate as it is."""
    return 1.0


def cosine(warmup=0.1, last=1e-3):
    """Rise evenly from `last` to 1 in the first part of the run, then fall to `last` along half a cosine.

    factor = last + (1 - last) (1 + cos(pi (done - warmup) / (1 - warmup))) / 2 after the warm-up.

    Parameters
    ----------
    warmup : float
        Fraction of the run in which the rate rises, 0 <= warmup < 1.
    last : float
        Factor at the start and at the end.

    Source: Loshchilov and Hutter 2017 (SGDR), equation 5; warm-up of Goyal et al. 2017, section 2.2.
    """
    if not 0 <= warmup < 1:
        raise ValueError(f"warmup is {warmup}; expected a fraction of at least 0 and below 1")

    def factor(done):
        if done < warmup:
            return last + (1 - last) * done / warmup
        return last + (1 - last) * (1 + math.cos(math.pi * (done - warmup) / (1 - warmup))) / 2

    return factor
