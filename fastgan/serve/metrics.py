"""What /metrics tells Prometheus of each model, beside what KServe counts itself."""

from __future__ import annotations

from fastgan.errors import BackendError

try:
    from prometheus_client import Counter, Gauge, Histogram
except ImportError as error:
    instead = "pip install 'fastgan[serve]'"
    raise BackendError("serve", f"no {error.name}", "KServe and what it needs", instead) from None

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)

REQUESTS = Counter("fastgan_requests", "Requests, by how they ended", ["model", "outcome"])
SECONDS = Histogram(
    "fastgan_request_seconds", "From a request to its answer", ["model"], buckets=_SECONDS
)
BATCH = Histogram(
    "fastgan_batch_samples", "Images of one run", ["model"], buckets=(1, 2, 4, 8, 16, 32, 64)
)
QUEUE = Gauge("fastgan_queue_requests", "Requests that wait", ["model"])
FALLBACKS = Gauge("fastgan_fallbacks", "Backends that did not take the model", ["model"])
