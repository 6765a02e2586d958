"""Generators written out plainly from their papers, as references and as something to export."""

from tests.networks.dcgan import dcgan
from tests.networks.plain import keras_style, wgan_style
from tests.networks.weights import randomise_batch_norms

__all__ = ["dcgan", "keras_style", "randomise_batch_norms", "wgan_style"]
