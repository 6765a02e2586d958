"""Networks from images to images."""
