"""A run's sums, kept where the run is: what training on the GPU counts without the host having to look.

A ledger is an array (6,) of float64, with these entries:

    LOSS       sum over the steps of loss x rows
    CORRECT    rows whose greatest output stands at their label
    STEPS      steps so far
    GATE       0; NaN from the first step on whose loss or gradient was not finite: it holds updates back
    BAD_STEP   that step, counted from 1
    BAD_LOSS   its loss
"""

__all__ = ["BAD_LOSS", "BAD_STEP", "CORRECT", "ENTRIES", "GATE", "LOSS", "STEPS"]

LOSS, CORRECT, STEPS, GATE, BAD_STEP, BAD_LOSS = range(6)
ENTRIES = 6
