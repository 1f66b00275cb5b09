from cuda_cases import a, public, twin

CASES = [
    *(twin("add", "add_forward", a(2, 3, 2, 3), a(2, 3, 2, 3), a(2, 3, 2, 3), relu) for relu in (False, True)),
    public("add", "add_forward", a(4, 5), a(4, 5)),
]
