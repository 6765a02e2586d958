"""WIP"""
EXAMPLES = ()
def inspect() -> None:
    """WIP."""
