"""Each kernel family beside the machine's limit and beside a C++ twin: `python -m benchmarks.kernels`."""
