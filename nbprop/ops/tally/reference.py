"""Count a step."""

import math

from nbprop import jit
from nbprop.ops.tally import BAD_LOSS, BAD_STEP, CORRECT, GATE, LOSS, STEPS


@jit.reference
def count_step(value, rows, parts, y, target, ledger):
    """Add a step of `rows` rows: its loss value[0], what `update.health` says of its gradient, y (N, C) and labels."""
    health = value[0] + parts.sum()
    for r in range(target.size):
        if y[r].argmax() == target[r]:
            ledger[CORRECT] += 1
    ledger[LOSS] += value[0] * rows
    ledger[STEPS] += 1
    if ledger[GATE] == 0 and not math.isfinite(health):
        ledger[GATE] = math.nan
        ledger[BAD_STEP] = ledger[STEPS]
        ledger[BAD_LOSS] = value[0]
