"""Mean and scatter (sum of squared deviations from the mean) of two sets taken together."""

from nbprop import jit

__all__ = ["joined"]


@jit.scalar
def joined(n, mean, scatter, more, other_mean, other_scatter):
    """Return mean and scatter of n and `more` values together (Chan, Golub, LeVeque 1983, equation 2.1)."""
    d = other_mean - mean
    share = more / (n + more)
    if n == 0:  # whatever `mean` held counts nothing, NaN included
        return other_mean, other_scatter
    return mean + d * share, scatter + (other_scatter + d * d * (n * share))
