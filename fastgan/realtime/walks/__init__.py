"""Walks through latent space."""
