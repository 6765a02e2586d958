"""A service: models behind the Open Inference Protocol, KServe's V2 (docs/serve.md).

KServe's own server speaks the protocol; nothing of it is written here. `requests` says what a
request asks of a model, `batching` runs what came in together as one, `model` is what KServe calls,
`server` what it is started with. `triton` writes the same for NVIDIA's Triton Inference Server.
"""
