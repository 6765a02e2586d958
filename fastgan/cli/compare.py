"""WIP"""
EXAMPLES = ()
def compare() -> None:
    """WIP."""
