"""A bundle made smaller: int8 weights, fewer heads and neurons, or a small network taught by it.

What comes out is a bundle as any other; what it costs and saves is measured on events that nothing
was fitted to.
"""
