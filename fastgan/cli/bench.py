"""WIP"""
EXAMPLES = ()
def bench() -> None:
    """WIP."""
