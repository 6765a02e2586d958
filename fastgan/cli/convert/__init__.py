"""Commands that make one kind of model file of another."""
