"""Count a step: a few hundred numbers, for which one thread is fastest."""

import math

from nbprop import jit
from nbprop.ops.tally import BAD_LOSS, BAD_STEP, CORRECT, GATE, LOSS, STEPS


@jit.kernel
def count_step(value, rows, squares, y, target, ledger):
    health = value[0]
    for k in range(squares.size):
        health += squares[k]
    for r in range(target.size):
        best = 0
        for c in range(1, y.shape[1]):
            if y[r, c] > y[r, best]:
                best = c
        ledger[CORRECT] += best == target[r]
    ledger[LOSS] += value[0] * rows
    ledger[STEPS] += 1
    if ledger[GATE] == 0 and not math.isfinite(health):
        ledger[GATE] = math.nan
        ledger[BAD_STEP] = ledger[STEPS]
        ledger[BAD_LOSS] = value[0]
