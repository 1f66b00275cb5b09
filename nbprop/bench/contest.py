"""One row of a benchmark: the same work by us and by a peer, checked and then timed."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from nbprop import layout
from nbprop.bench import clock

__all__ = ["Contest", "Result", "WrongResult", "geometric_mean", "relative_error", "run"]

# A peer may sum in float32 as it likes: cuDNN's weight gradient over 4096 images is off by 4e-5 (TF32: some 3e-4).
_PEERS = 1e-4


class WrongResult(Exception):
    """A timed function does not compute what it should."""


class Contest(NamedTuple):
    """The same work by us and by a peer.

    `ours` and every function of `peers` take no arguments. `errors` runs each of them once and returns its
    distance from the same work in float64, by name ("ours" or the memory format). `flops` and `bytes` are the
    least that the work needs, whatever the algorithm; `flops` is 0 where nobody counts them.
    """

    name: str
    pass_: str
    ours: Callable
    peers: dict  # name of a memory format or an implementation -> function; the fastest counts
    errors: Callable
    tolerance: float
    flops: int
    bytes: int


class Result(NamedTuple):
    """Medians of one row in seconds; `peer_s`, `ratio` and `format` are None without a peer.

    `copy_s` is the time of a copy that moves as many bytes as the work must.
    """

    name: str
    pass_: str
    ours_s: float
    peer_s: float | None
    format: str | None
    flops: int
    bytes: int
    copy_s: float

    @property
    def ratio(self):
        """The peer's time by ours: above 1 we are faster."""
        return None if self.peer_s is None else self.peer_s / self.ours_s

    @property
    def gflops(self):
        """None where the work is not counted in operations."""
        return self.flops / self.ours_s / 1e9 if self.flops else None

    @property
    def gbytes(self):
        """The least traffic, in 10^9 bytes per second."""
        return self.bytes / self.ours_s / 1e9

    @property
    def of_copy(self):
        """The share of a copy's bandwidth."""
        return self.copy_s / self.ours_s

    def as_json(self):
        """Return the fields that `--json` prints: speed in bytes too where operations are not counted."""
        fields = {"name": self.name, "pass": self.pass_, "ours_s": self.ours_s, "peer_s": self.peer_s,
                  "ratio": self.ratio, "gflops": self.gflops}
        return fields if self.flops else fields | {"gbytes": self.gbytes}


def run(contest, copying, **race):
    """Check every contestant against float64, then time them in turns, as `clock.race` is told.

    In their midst a copy of `contest.bytes`, which `copying` makes: where memory is shared with other machines, its
    bandwidth changes by half from one second to the next, and a limit met at its best says nothing of a median.
    """
    for who, error in contest.errors().items():
        allowed = contest.tolerance if who == "ours" else max(contest.tolerance, _PEERS)
        if not error <= allowed:
            raise WrongResult(f"{contest.name} {contest.pass_}: {who} is off by {error:.1e} from float64 "
                              f"(allowed: {allowed:.0e})")
    ours, copy, *peers = clock.race([contest.ours, copying(contest.bytes), *contest.peers.values()], **race)
    best = min(zip(peers, contest.peers), default=(None, None))
    return Result(contest.name, contest.pass_, ours, *best, contest.flops, contest.bytes, copy)


def relative_error(results, expected):
    """Return the largest l2 distance over l2 size among two tuples of arrays."""
    return max(_distance(a, e) for a, e in zip(results, expected, strict=True))


def _distance(a, expected):
    here = layout.mover("cpu")
    a, expected = np.asarray(here(a)), np.asarray(here(expected), np.float64)
    if a.shape != expected.shape:
        return math.inf
    return float(np.linalg.norm(np.ravel(a - expected)) / np.linalg.norm(np.ravel(expected)))


def geometric_mean(values):
    """Return the n-th root of the product."""
    return math.exp(math.fsum(map(math.log, values)) / len(values))
