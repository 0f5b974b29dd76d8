"""The SSA graph: dimensions, ops (each declared once) and passes.

`ir` the graph, `ops` the ops, `build` to write one, `pipeline` to lower it, `check` to verify it, `formats` how
weights are stored.  Nothing is imported here: `formats` must stay free of NumPy for those who only name a format.
"""
