"""The C++ runtime: a chain of dense layers as one native call."""
