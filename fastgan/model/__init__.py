"""What a file is: read and checked, and what its inputs and outputs are."""
