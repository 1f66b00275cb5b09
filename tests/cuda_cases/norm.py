from cuda_cases import COLUMNS, Work, a, positive, public, shifted, twin, wide

X, Y = a(2, 4, 3, 3), a(2, 4, 3, 3)


# B, G of four normalised channels: batch, instance, group norm, and MVN across channels.
GROUPS = (1, 4), (2, 4), (2, 2), (2, 1)
SMALL = COLUMNS | {"_BLOCK": 2, "cuda_columns._BLOCKS": 8}

CASES = [
    *(twin("norm", "norm_statistics", shifted(2, 4, 3, 3), wide(B, G), wide(B, G), Work((2, 4, 3, 3), B),
           constants=SMALL, tolerance={"float32": 1e-4}) for B, G in GROUPS),
    twin("norm", "norm_statistics", shifted(2, 3, 4, 3), wide(1, 3), wide(1, 3), Work((2, 3, 4, 3), 1), constants=SMALL,
         tolerance={"float32": 1e-4}),
    *(twin("norm", "norm_divisors", positive(2, 3), 1e-3, kind, wide(2, 3), wide(2, 3)) for kind in range(3)),
    twin("norm", "norm_remember", wide(5, 3), wide(5, 3), 0.1, 1.25, a(3), a(3), constants=SMALL),
    *(twin("norm", "norm_forward", X, a(4), a(4), wide(B, G), wide(B, G), added, G == 2, Y, Work((2, 4, 3, 3), B),
           constants=SMALL)
      for B, G in GROUPS for added in (None, X)),
    *(twin("norm", "norm_backward_sums", Y, X, a(4), a(4), wide(B, G), wide(B, G), relu, wide(2, B, 4),
           Work((2, 4, 3, 3), B), constants=SMALL) for B, G in GROUPS for relu in (False, True)),
    twin("norm", "norm_backward_sums", a(2, 3, 4, 3), a(2, 3, 4, 3), a(3), a(3), wide(1, 3), wide(1, 3), True,
         wide(2, 1, 3), Work((2, 3, 4, 3), 1), constants=SMALL),
    *(twin("norm", "norm_forward_own", X, a(4), a(4), 1e-3, G % 3, added, G == 2, wide(B, G), wide(B, G), wide(B, G),
           wide(B, G), Y, Work((2, 4, 3, 3), B), constants=SMALL, tolerance={"float32": 1e-4})
      for B, G in GROUPS for added in (None, X)),
    *(twin("norm", "norm_backward_own", Y, X, a(4), a(4), wide(B, G), wide(B, G), wide(B, G), relu, wide(2, B, 4), Y,
           Work((2, 4, 3, 3), B), constants=SMALL) for B, G in GROUPS for relu in (False, True)),
    twin("norm", "norm_backward_weight", wide(2, 5, 6), wide(5, 3), a(6), a(6), constants=SMALL),
    *(twin("norm", "norm_backward_input", Y, X, a(4), a(4), wide(B, G), wide(B, G), wide(B, G), wide(2, B, 4), fixed,
           relu, Y, Work((2, 4, 3, 3), B))
      for (B, G), fixed in zip(GROUPS, (False, True, False, False)) for relu in (False, True)),
    public("norm", "norm_forward", a(2, 3, 2, 3), named={"over_batch": True}),
    public("norm", "norm_forward", a(2, 6, 2, 1), a(6), a(6), named={"groups": 2}),
    public("norm", "norm_backward", a(2, 3, 2, 2), a(2, 3, 2, 2), wide(2, 3), positive(2, 3), a(3)),
    twin("norm", "norm_statistics", shifted(32, 64, 28, 28), wide(1, 64), wide(1, 64), Work((32, 64, 28, 28), 1),
         big=True, tolerance={"float32": 1e-4}),
]
