import numpy as np

from cuda_cases import a, public, twin
from nbprop.ops import pointwise_loss
from nbprop.ops.pointwise_loss import HUBER, LossPair

PAIRS = [v for v in vars(pointwise_loss).values() if isinstance(v, LossPair)]
HALF = (np.float32(0.5),)


def _parameters(pair):
    return HALF if pair is HUBER else ()


CASES = [
    *(twin("pointwise_loss", "loss_sums", p, _parameters(p), a(43), a(43), 0.5, a(3, dtype=np.float64), a(43))
      for p in PAIRS),
    twin("pointwise_loss", "loss_values", HUBER, HALF, *(a(2, 3, 1, 2) for _ in range(4))),
    twin("pointwise_loss", "total", a(11, dtype=np.float64), 0.25, a(1, dtype=np.float64)),
    public("pointwise_loss", "pointwise_loss_forward", PAIRS[0], a(2, 3, 2, 1), a(2, 3, 2, 1)),
    public("pointwise_loss", "pointwise_loss_forward", PAIRS[0], a(4, 3), a(4, 3), named={"reduction": "none"}),
    public("pointwise_loss", "pointwise_loss_backward", PAIRS[1], a(4, 3), a(4, 3), named={"reduction": "batchmean"}),
]
