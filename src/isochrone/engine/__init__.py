"""Requests in, tokens out: which sequences run in the next step, and on which pages of the KV cache.

`records` and `client` serve the gateway and load no NumPy; `engine`, `local` and `process` stand on a runtime.
"""
