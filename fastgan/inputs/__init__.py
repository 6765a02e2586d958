"""Ports to tensors: latents, labels, noise and examples of every input."""
