"""What a tile of results is, and what a form of its product brings along."""

from typing import NamedTuple

__all__ = ["Form", "Tile"]


class Tile(NamedTuple):
    """BM x BN results of a block, BK terms at a time; a thread holds TM x TN of them."""

    BM: int
    BN: int
    BK: int
    TM: int
    TN: int

    @property
    def threads(self):
        return self.BM // self.TM * (self.BN // self.TN)


class Form(NamedTuple):
    """How a tile is multiplied: the distance of shared memory's rows, the product, and who holds what."""

    LA: int
    LB: int
    step: object  # step(acc, sa, a0, sb, b0, t): acc += sa^T sb, over the BK rows from a0 and b0 on
    row: object  # row(t, i) of acc[i, :]
    column: object  # column(t, j) of acc[:, V j], the first of V neighbours
    V: int
    converted: object  # converted(x): an operand as it is put into shared memory
