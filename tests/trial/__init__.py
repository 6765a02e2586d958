"""Trials of models that nobody here wrote, run by hand: docs/compatibility.md has the results.

pytest collects nothing here. Each needs packages that fastgan does not, and says which.
"""
