"""How a step is entered in a ledger, once its sums are known."""

import math

from nbprop import jit
from nbprop.ops.tally import BAD_LOSS, BAD_STEP, CORRECT, GATE, LOSS, STEPS

__all__ = ["enter"]


@jit.scalar
def enter(ledger, loss, rows, correct, health):
    """Add a step; the first whose `health` is not finite closes the gate."""
    ledger[CORRECT] += correct
    ledger[LOSS] += loss * rows
    ledger[STEPS] += 1
    if ledger[GATE] == 0 and not math.isfinite(health):
        ledger[GATE] = math.nan
        ledger[BAD_STEP] = ledger[STEPS]
        ledger[BAD_LOSS] = loss
