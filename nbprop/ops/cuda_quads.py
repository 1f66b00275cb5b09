"""Four neighbours at a time: 16 bytes of float32 in one instruction, which the compiler makes of plain loads nowhere.

    quad(array, offset)                four elements from `offset` on, a multiple of 4
    put_quad(array, offset, a, b, c, d)
"""

from nbprop import gpu

__all__ = ["put_quad", "quad"]

if gpu.SIMULATED:

    def quad(array, offset):
        assert offset % 4 == 0 and 0 <= offset <= array.size - 4
        return tuple(array[offset : offset + 4])

    def put_quad(array, offset, a, b, c, d):
        assert offset % 4 == 0 and 0 <= offset <= array.size - 4
        array[offset : offset + 4] = a, b, c, d

else:
    from llvmlite import ir
    from numba import types

    def _pointer(context, builder, array_type, array, offset):
        """Return the address of array[offset] as that of a vector of four."""
        data = context.make_array(array_type)(context, builder, array).data
        vector = ir.VectorType(data.type.pointee, 4)
        return builder.bitcast(builder.gep(data, [offset]), ir.PointerType(vector, data.type.addrspace)), vector

    def _index(i):
        return ir.Constant(ir.IntType(32), i)

    @gpu.intrinsic
    def quad(typing_context, array, offset):
        def codegen(context, builder, signature, args):
            pointer, _ = _pointer(context, builder, signature.args[0], *args)
            four = builder.load(pointer)
            four.align = 16
            return context.make_tuple(builder, signature.return_type,
                                      [builder.extract_element(four, _index(i)) for i in range(4)])

        return types.UniTuple(array.dtype, 4)(array, offset), codegen

    @gpu.intrinsic
    def put_quad(typing_context, array, offset, a, b, c, d):
        def codegen(context, builder, signature, args):
            pointer, vector = _pointer(context, builder, signature.args[0], *args[:2])
            four = ir.Constant(vector, ir.Undefined)
            for i in range(4):
                four = builder.insert_element(four, args[2 + i], _index(i))
            builder.store(four, pointer).align = 16
            return context.get_dummy_value()

        return types.void(array, offset, array.dtype, array.dtype, array.dtype, array.dtype), codegen
