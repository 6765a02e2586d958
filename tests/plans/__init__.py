"""Golden plans: what the networks of the tests and the models that ship are planned to, as text."""
