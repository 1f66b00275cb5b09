from cuda_cases import a, public, twin

PLAIN = (2, 2), (2, 2), (0, 0)
ODD = (3, 2), (2, 1), (1, 1)

CASES = [
    twin("avg_pool", "avg_pool2d_forward", a(2, 4, 5, 4), a(2, 4, 2, 2), *PLAIN, True, 0),
    *(twin("avg_pool", "avg_pool2d_forward", a(1, 3, 5, 4), a(1, 3, 3, 5), *ODD, *m) for m in ((True, 0), (False, 0))),
    twin("avg_pool", "avg_pool2d_backward", a(2, 4, 2, 2), a(2, 4, 5, 4), *PLAIN, True, 0),
    *(twin("avg_pool", "avg_pool2d_backward", a(1, 3, 3, 5), a(1, 3, 5, 4), *ODD, *m) for m in ((False, 0), (True, 7))),
    public("avg_pool", "avg_pool2d_forward", a(1, 2, 5, 6), named={"kernel_size": 3, "stride": 2, "ceil_mode": True}),
    public("avg_pool", "avg_pool2d_backward", a(1, 2, 2, 3), (1, 2, 5, 6), 3,
           named={"stride": 2, "ceil_mode": True}),
    twin("avg_pool", "avg_pool2d_forward", a(4, 64, 56, 56), a(4, 64, 28, 28), *PLAIN, True, 0, big=True),
]
