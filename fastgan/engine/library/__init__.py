"""torch's operators: the reference, and what the other engines leave."""
