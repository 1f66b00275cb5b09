from cuda_cases import a, public, twin

PLAIN = (2, 2), (2, 2), (0, 0)
ODD = (3, 2), (2, 1), (1, 1)

CASES = [
    twin("avg_unpool", "avg_unpool2d_forward", a(2, 4, 2, 2), a(2, 4, 4, 4), *PLAIN, True),
    *(twin("avg_unpool", "avg_unpool2d_forward", a(1, 3, 3, 5), a(1, 3, 5, 4), *ODD, copy) for copy in (True, False)),
    *(twin("avg_unpool", "avg_unpool2d_backward", a(1, 3, 5, 4), a(1, 3, 3, 5), *ODD, copy) for copy in (True, False)),
    public("avg_unpool", "avg_unpool2d_forward", a(1, 4, 2, 2), 2),
    public("avg_unpool", "avg_unpool2d_backward", a(1, 4, 4, 4), (1, 4, 2, 2), 2),
]
