"""The C++ runtime: a plan as native calls."""
