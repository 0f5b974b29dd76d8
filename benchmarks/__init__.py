"""What Isochrone is compared with, and how: each module runs as `python -m benchmarks.NAME`."""
