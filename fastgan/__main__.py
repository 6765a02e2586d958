"""`python -m fastgan`."""

from fastgan.cli import main

main()
