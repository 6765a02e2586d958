"""Where frames go: textures, videos, senders."""
