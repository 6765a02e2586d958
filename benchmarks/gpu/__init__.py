"""Evidence on a GPU: see `benchmarks/gpu_evidence.py`."""
