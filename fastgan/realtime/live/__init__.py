"""A local page that shows a generator live, and takes control from it."""
