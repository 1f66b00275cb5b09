"""Time functions in turns, so that what disturbs the machine disturbs all of them alike."""

import statistics
import time

__all__ = ["ROUNDS", "SECONDS", "best", "median", "race", "seconds_per_call"]

ROUNDS = 7
SECONDS = 0.05


def race(functions, rounds=ROUNDS, least=SECONDS, timer=None):
    """Return each function's median seconds per call over `rounds` rounds of at least `least` seconds.

    The rounds go a, b, c, a, b, c, ...: never all of one and then all of the next. `timer` is another
    `seconds_per_call`.
    """
    seen = [[] for _ in functions]
    for _ in range(rounds):
        for function, times in zip(functions, seen):
            function()  # its own thread pool is awake again, and its operands are back in the cache
            times.append((timer or seconds_per_call)(function, least))
    return [statistics.median(times) for times in seen]


def median(function):
    """Return the median seconds per call of one function alone."""
    return race([function])[0]


def best(function, rounds=ROUNDS, least=SECONDS / 5):
    """Return the shortest of several rounds' mean times of a call: a limit, not what to expect."""
    function()
    return min(seconds_per_call(function, least) for _ in range(rounds))


def seconds_per_call(function, least=SECONDS):
    """Call for at least `least` seconds and return the mean time of a call."""
    calls = 0
    start = time.perf_counter()
    while True:
        function()
        calls += 1
        elapsed = time.perf_counter() - start
        if elapsed >= least:
            return elapsed / calls
