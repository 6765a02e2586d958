"""WIP"""
EXAMPLES = ()
def doctor() -> None:
    """WIP."""
