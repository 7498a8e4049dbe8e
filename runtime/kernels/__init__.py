"""The Triton kernels. Importing this package imports triton.

One set of kernels runs every plan: patterns are data (see `attnloom.runtime.executable`), and what
is compiled depends on dtype, head_dim and a few flags alone.

Words that the kernels use: `q k v o do dq dk dv` are query, key, value, output and gradients;
`rows` are the positions whose result a program computes, `columns` those that a tile meets, as in
the records of a pass (for keys and values, rows are keys and columns are queries). `exponents` are
scores times log2(e), so that `exp2` gives weights. `row_max`, `row_sum` and `acc` are the running
maximum, sum of weights, and weighted sum of values of the online softmax; `delta` is
`sum(do * o) - dlse`. Shape comments: M rows, N columns, D numbers of a head.
"""
