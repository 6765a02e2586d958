"""Measuring: how fast, beside what, how exact, and on which machine.

`fastgan bench`, `fastgan compare`, `fastgan doctor` and the suites in `benchmarks/` share it.
"""
