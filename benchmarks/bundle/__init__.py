"""`python -m benchmarks.bundle`: bundles in C."""
