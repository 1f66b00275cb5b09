from cuda_cases import a, public, twin

NAMES = "softmax_forward", "log_softmax_forward"
BACKWARD = "softmax_backward", "log_softmax_backward"

CASES = [
    *(twin("softmax", f, a(3, 11), a(3, 11), 1) for f in NAMES),
    *(twin("softmax", f, a(3, 11), a(3, 11), a(3, 11), 1) for f in BACKWARD),
    *(twin("softmax", f, a(2, 3, 2, 3), a(2, 3, 2, 3), axis) for f in NAMES for axis in (1, 2)),
    *(twin("softmax", f, a(2, 3, 2, 3), a(2, 3, 2, 3), a(2, 3, 2, 3), 3) for f in BACKWARD),
    public("softmax", "softmax_forward", a(2, 3, 2, 2)),
    public("softmax", "log_softmax_backward", a(3, 5), a(3, 5)),
    twin("softmax", "softmax_forward", a(64, 1000), a(64, 1000), 1, big=True),
]
