"""What the machine gives: its processor, its memory, its files."""
