from cuda_cases import a, public, twin

CASES = [
    twin("dilated_delta", "dilated_delta_forward", a(2, 3, 2, 3), a(2, 3, 6, 6), (2, 1), (2, 1)),
    twin("dilated_delta", "dilated_delta_backward", a(2, 3, 6, 6), a(2, 3, 2, 3), (2, 1), (2, 1)),
    public("dilated_delta", "strided_backward_input", a(1, 3, 3, 2), a(3, 2, 3, 3), (1, 2, 5, 4), named={
        "stride": 2, "padding": 1}),
    public("dilated_delta", "strided_backward_weight", a(1, 3, 3, 2), a(1, 2, 5, 4), (3, 2, 3, 3), named={
        "stride": 2, "padding": 1}),
]
