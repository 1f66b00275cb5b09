"""The kernels, one op per folder, as functions on plain arrays."""
