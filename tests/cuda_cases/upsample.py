from cuda_cases import a, public

CASES = [
    *(public("upsample", "upsample_forward", a(1, C, 3, 4), named={"size": (5, 7), "mode": mode})
      for C, mode in ((3, "nearest"), (4, "bilinear"))),
    public("upsample", "upsample_forward", a(1, 3, 3, 4), named={"size": (2, 6), "mode": "bilinear",
                                                                "align_corners": True}),
    *(public("upsample", "upsample_backward", a(1, C, 5, 7), (1, C, 3, 4), named={"size": (5, 7), "mode": mode})
      for C, mode in ((4, "nearest"), (3, "bilinear"), (4, "bilinear"))),
    public("upsample", "upsample_backward", a(1, 2, 2, 2), (1, 2, 4, 5), named={"size": 2, "mode": "bilinear"}),
]
