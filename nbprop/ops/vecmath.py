"""exp, log, tanh and their kin as straight-line code, so that a loop over them becomes vector instructions.

Numba's own ``math.exp`` is one library call per element. These are plain polynomials after an exact range
reduction; where the domain has parts, each is computed and the right one selected: a branch would
stop vectorisation. float32 and float64, at most 2 ulp (erfc: see there) over the whole range, with
denormals, overflow, infinities and NaN as in IEEE libraries.

They serve in any kernel, and in users' ``@njit`` code: ``vecmath.exp(x)``. Called from Python they are
NumPy's. Each is written once, in a function of the type ``T``, so that its constants have it.
"""

import math

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

__all__ = ["constant", "erfc", "exp", "expm1", "log", "log1p", "maximum", "sigmoid", "tanh"]

# Contraction to fused multiply-adds only makes the reductions more exact. No `reassoc`: (x + ROUND) - ROUND
# is meant as written. No `arcp` or `afn`: an estimated quotient would cost the last digits.
_OPTIONS = {"fastmath": {"contract", "nsz"}, "error_model": "numpy", "forceinline": True}

# Adding and subtracting it rounds to an integer, which then also stands in the low bits of the sum.
_ROUND = {np.float32: np.float32(1.5 * 2**23), np.float64: 1.5 * 2**52}

# ln 2 in two parts, the first so short that n times it is exact for every exponent n.
_LN2 = {
    np.float32: (np.float32(0.693359375), np.float32(-2.12194440054690583e-4)),
    np.float64: (6.93147180369123816490e-01, 1.90821492927058770002e-10),
}


def _written_for_both_types(function):
    """Register `make(T)` as the compiled form of `function` for T = float32 and float64."""

    def register(make):
        forms = {types.float32: make(np.float32), types.float64: make(np.float64)}
        overload(function, jit_options=_OPTIONS)(lambda x: forms.get(x))
        return make

    return register


def _polynomial(in32, in64):
    """Make x -> c0 + c1 x + c2 x^2 + ... by Horner's rule, with coefficients for each type."""

    @intrinsic
    def horner(typing_context, x):
        coefficients = in32 if x == types.float32 else in64

        def codegen(context, builder, signature, args):
            number = args[0].type
            total = number(coefficients[-1])
            for c in reversed(coefficients[:-1]):
                total = builder.fadd(builder.fmul(total, args[0], flags=("contract",)), number(c),
                                     flags=("contract",))
            return total

        return x(x), codegen

    return horner


def _layout(number):
    """Return the integer type, mantissa width and exponent bias of an IR float type."""
    return (ir.IntType(32), 23, 127) if number == ir.FloatType() else (ir.IntType(64), 52, 1023)


def _biased(builder, rounded, times):
    """Return n, the low bits of `rounded` = n + ROUND, plus `times` the exponents' bias; and the mantissa's width."""
    integer, width, bias = _layout(rounded.type)
    magic = builder.bitcast(rounded.type(1.5 * 2.0**width), integer)
    shift = builder.sub(integer(times * bias), magic)
    return builder.add(builder.bitcast(rounded, integer), shift), integer(width)


@intrinsic
def _scaled(typing_context, y, rounded):
    """y 2^n, with n in the low bits of `rounded`.

    In two factors, 2^(n // 2) and the rest: one alone would overflow, or lose digits, at the range's ends.
    """

    def codegen(context, builder, signature, args):
        y, rounded = args
        both, width = _biased(builder, rounded, 2)
        half = builder.lshr(both, both.type(1))
        for biased in half, builder.sub(both, half):
            y = builder.fmul(y, builder.bitcast(builder.shl(biased, width), y.type))
        return y

    return y(y, y), codegen


@intrinsic
def _power(typing_context, rounded):
    """2^n, where that is neither too large nor too small for one exponent."""

    def codegen(context, builder, signature, args):
        (rounded,) = args
        biased, width = _biased(builder, rounded, 1)
        return builder.bitcast(builder.shl(biased, width), rounded.type)

    return rounded(rounded), codegen


def _binary_parts(builder, x):
    """Split IR float x > 0 into m in [sqrt(1/2), sqrt(2)) and an integer k, both IR, with x = m 2^k."""
    integer, width, _ = _layout(x.type)
    bits = builder.bitcast(x, integer)
    lowest = builder.bitcast(x.type(math.sqrt(0.5)), integer)
    k = builder.ashr(builder.sub(bits, lowest), integer(width))
    return builder.bitcast(builder.sub(bits, builder.shl(k, integer(width))), x.type), k


@intrinsic
def _mantissa(typing_context, x):
    def codegen(context, builder, signature, args):
        return _binary_parts(builder, args[0])[0]

    return x(x), codegen


@intrinsic
def _exponent(typing_context, x):
    def codegen(context, builder, signature, args):
        number = args[0].type
        integer, width, _ = _layout(number)
        magic = number(1.5 * 2.0**width)
        k = _binary_parts(builder, args[0])[1]  # to a float through ROUND: AVX2 converts no 64-bit integers
        return builder.fsub(builder.bitcast(builder.add(k, builder.bitcast(magic, integer)), number), magic)

    return x(x), codegen


@intrinsic
def _maximum(typing_context, a, b):
    def codegen(context, builder, signature, args):
        number = args[0].type
        function = ir.FunctionType(number, [number, number])
        return builder.call(builder.module.declare_intrinsic("llvm.maximum", [number], function), args)

    return a(a, a), codegen


def maximum(a, b):
    """Larger of two, NaN if either is NaN. A loop of it vectorises; a loop of ifs does not."""
    return np.maximum(a, b)


overload(maximum, jit_options=_OPTIONS)(lambda a, b: lambda a, b: _maximum(a, b))


# (e^r - 1 - r) / r^2 = 1/2! + r/3! + r^2/4! + ..., for |r| <= ln(2)/2; for float32 a polynomial whose largest error
# is as good as the least, 4e-9 of e^r.
_EXP32 = [0.49999994, 0.1666652, 0.0416684, 0.00836885, 0.001381432]
_EXP64 = [1 / math.factorial(k) for k in range(2, 14)]
_exp_tail = _polynomial(_EXP32, _EXP64)


def _reduced_exp(x):
    """With x = n ln 2 + r: e^r - 1, and n + ROUND; for an x within reach."""


@_written_for_both_types(_reduced_exp)
def _(T):
    log2e, magic, (ln2_high, ln2_low) = T(1 / math.log(2)), _ROUND[T], _LN2[T]

    def reduced_exp(x):
        rounded = x * log2e + magic
        n = rounded - magic
        r = (x - n * ln2_high) - n * ln2_low
        return r + r * r * _exp_tail(r), rounded

    return reduced_exp


def _within_reach(x):
    """x, moved to where e^x is just 0 or infinite if it lies beyond; NaN stays."""


@_written_for_both_types(_within_reach)
def _(T):
    low, high = (T(-104), T(89)) if T is np.float32 else (T(-746), T(710))

    def within_reach(x):
        x = low if x < low else x
        return high if x > high else x

    return within_reach


def exp(x):
    """e^x."""
    return np.exp(x)


@_written_for_both_types(exp)
def _(T):
    one = T(1)

    def exp(x):
        p, rounded = _reduced_exp(_within_reach(x))
        return _scaled(one + p, rounded)

    return exp


def expm1(x):
    """e^x - 1, exact to the last digits near 0."""
    return np.expm1(x)


@_written_for_both_types(expm1)
def _(T):
    # e^x - 1 = 2^n (e^r - 1) + (2^n - 1); from `large` on the 1 is below the last digit, and 2^n may overflow
    one, large = T(1), T(50)

    def expm1(x):
        p, rounded = _reduced_exp(_within_reach(x))
        s = _scaled(one, rounded)
        return _scaled(one + p, rounded) if x > large else s * p + (s - one)

    return expm1


def tanh(x):
    """Hyperbolic tangent."""
    return np.tanh(x)


@_written_for_both_types(tanh)
def _(T):
    # tanh |x| = -t / (t + 2) with t = e^(-2|x|) - 1 = s p + (s - 1) in (-1, 0], s = 2^n;
    # then corrected by what the roundings of t and of d = t + 2 lost, with 1/d = (1 - y) / 2
    zero, half, one, two = T(0), T(0.5), T(1), T(2)
    last = T(-40)  # from where on t is -1, to the last digit

    def tanh(x):
        z = -two * abs(x)
        p, rounded = _reduced_exp(last if z < last else z)
        s = _power(rounded)
        t = s * p + (s - one)
        t_lost = s * p - (t - (s - one))
        d = t + two
        d_lost = t - (d - two) + t_lost
        y = t / d
        y += (t_lost - y * d_lost) * (half - half * y)
        return -y if x > zero else y

    return tanh


def sigmoid(x):
    """1 / (1 + e^-x)."""
    e = np.exp(-abs(x))
    return (e if x < 0 else 1.0) / (1.0 + e)


@_written_for_both_types(sigmoid)
def _(T):
    # on the left e^-|x| / (1 + e^-|x|), so that the tail keeps its digits; corrected as in tanh
    zero, one = T(0), T(1)

    def sigmoid(x):
        e = exp(-abs(x))
        d = one + e
        y = (e if x < zero else one) / d
        return y - y * (e - (d - one)) * (one - y if x < zero else y)

    return sigmoid


def log(x):
    """Natural logarithm."""
    return np.log(x)


# s = f / (2 + f), log(1 + f) = 2 atanh(s) = f - f^2/2 + s (f^2/2 + R), R = 2/3 s^2 + 2/5 s^4 + ... (fdlibm)
_LOG = [2 / k for k in range(3, 23, 2)]
_log_tail = _polynomial(_LOG[:4], _LOG)


@_written_for_both_types(log)
def _(T):
    zero, one, two, half, infinity, nan = T(0), T(1), T(2), T(0.5), T(math.inf), T(math.nan)
    tiny, lift = np.finfo(T).tiny, T(60)
    up = T(2.0**60)
    ln2_high, ln2_low = _LN2[T]

    def log(x):
        denormal = x < tiny
        m = _mantissa(x * up if denormal else x)
        k = _exponent(x * up if denormal else x) - (lift if denormal else zero)
        f = m - one
        s = f / (two + f)
        z = s * s
        square = half * f * f
        y = k * ln2_high - ((square - (s * (square + z * _log_tail(z)) + k * ln2_low)) - f)
        y = y if x < infinity else x  # infinity and NaN
        y = -infinity if x == zero else y
        return nan if x < zero else y

    return log


def log1p(x):
    """log(1 + x), exact to the last digits near 0."""
    return np.log1p(x)


@_written_for_both_types(log1p)
def _(T):
    # log(u) for the rounded u = 1 + x, less what the rounding added: (u - 1 - x) / u
    zero, one, infinity = T(0), T(1), T(math.inf)

    def log1p(x):
        u = one + x
        y = log(u) - ((u - one) - x) / (one if u == zero else u)
        return y if x < infinity else x

    return log1p


def erfc(x):
    """1 - erf(x), that is 2 / sqrt(pi) times the integral of e^(-t^2) from x on; within (8 + x^2) ulp."""
    return np.float64(math.erfc(x))


# erf(x) = x (2 / sqrt(pi)) (1 - x^2 / 3 + x^4 / (2! 5) - ...), for |x| <= 1/2
_ERF = [2 / math.sqrt(math.pi) * (-1) ** k / (math.factorial(k) * (2 * k + 1)) for k in range(13)]
_erf_head = _polynomial(_ERF[:7], _ERF)

# e^(z^2) erfc(z) (z + 3) as a polynomial of t = (z - 3) / (z + 3), for 1/2 <= z while erfc(z) > 0:
# interpolation at Chebyshev's nodes, in 40 digits; relative error 3e-9 and 4e-17.
_ERFC32 = [
    1.074006907, -0.8833944726, 0.5902283077, -0.3104664591, 0.1195292408, -0.02683608465,
    -0.001228155424, 0.003068828101, -0.0004798779834, -0.0003131543257,
]  # fmt: skip
_ERFC64 = [
    1.0740069070883398, -0.8833944531698835, 0.5902283571041086, -0.3104672619005868,
    0.11952776128686647, -0.026827234623706526, -0.0012124166168948631, 0.0030340619865039556,
    -0.000548309819584541, -0.00027677768810483914, 0.00010756240088019404, 3.0397118154486666e-05,
    -1.7474571627297945e-05, -4.744838372608504e-06, 2.776341848896851e-06, 9.871442866731946e-07,
    -4.2630044642090224e-07, -2.1399094459518544e-07, 6.356102782887272e-08, 3.195829835276733e-08,
    -8.902965680419666e-09,
]  # fmt: skip
_erfc_tail = _polynomial(_ERFC32, _ERFC64)


@_written_for_both_types(erfc)
def _(T):
    zero, half, one, two, three, last = T(0), T(0.5), T(1), T(2), T(3), T(28)

    def erfc(x):
        z = abs(x)
        z = last if z > last else z
        u = one / (z + three)
        tail = exp(-z * z) * u * _erfc_tail((z - three) * u)
        return one - x * _erf_head(x * x) if z < half else (two - tail if x < zero else tail)

    return erfc


def constant(value, x):
    """The number `value` in x's type. A bare 0.1 is a float64, and makes all that it meets one, and slow."""
    return value


@overload(constant, jit_options=_OPTIONS)
def _(value, x):
    if x == types.float32:
        return lambda value, x: np.float32(value)
    return lambda value, x: np.float64(value)
