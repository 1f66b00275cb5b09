from cuda_cases import COLUMNS, Work, a, positive, public, shifted, twin, wide

LOOSE = {"float32": 1e-4}  # a mean of 50 leaves fewer digits for the deviations
SMALL = COLUMNS | {"_BLOCK": 2, "cuda_columns._BLOCKS": 4}

CASES = [
    twin("layer_norm", "layer_norm_forward", shifted(3, 20), a(20), a(20), 1e-5, wide(3), wide(3), a(3, 20),
         tolerance=LOOSE),
    twin("layer_norm", "layer_norm_forward", a(2, 7), a(7), a(7), 1e-5, wide(2), wide(2), a(2, 7)),
    twin("layer_norm", "layer_norm_backward_input", a(3, 20), a(3, 20), a(20), wide(3), positive(3), a(3, 20)),
    twin("layer_norm", "layer_norm_backward_input", a(2, 7), a(2, 7), a(7), wide(2), positive(2), a(2, 7)),
    *(twin("layer_norm", "layer_norm_backward_weight", a(9, F), a(9, F), wide(9), positive(9), a(F), a(F), Work(9, F),
           constants=SMALL) for F in (12, 5)),
    *(public("layer_norm", "layer_norm_forward", a(2, 3, 2, 2), shape) for shape in ((3, 2, 2), (2, 2), 2)),
    public("layer_norm", "layer_norm_forward", a(4, 6), 6, a(6), a(6)),
    public("layer_norm", "layer_norm_backward", a(2, 3, 2, 2), a(2, 3, 2, 2), (3, 2, 2), wide(2), positive(2)),
    public("layer_norm", "layer_norm_backward", a(3, 5), a(3, 5), 5, wide(3), positive(3), a(5)),
    twin("layer_norm", "layer_norm_forward", a(512, 768), a(768), a(768), 1e-5, wide(512), wide(512), a(512, 768),
         big=True),
]
