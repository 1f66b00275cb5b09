from cuda_cases import a, public, twin

WIDE, MIXED = (1, 2, 2, 1), (2, -1, -1, 1)  # left, right, top, bottom

CASES = [
    *(twin("border", "border_forward", a(1, 4, 4, 5), a(1, 4, 7, 8), WIDE, mode, 0.5) for mode in range(4)),
    *(twin("border", "border_forward", a(2, 3, 4, 3), a(2, 3, 4, 4), MIXED, mode, 0.5) for mode in (0, 3)),
    *(twin("border", "border_backward", a(1, 4, 7, 8), a(1, 4, 4, 5), WIDE, mode) for mode in range(4)),
    *(twin("border", "border_backward", a(2, 3, 4, 4), a(2, 3, 4, 3), MIXED, mode) for mode in range(4)),
    public("border", "border_forward", a(1, 2, 3, 3), 1),
    public("border", "border_backward", a(1, 2, 5, 5), (1, 2, 3, 3), 1, "reflect"),
]
