"""The child process of `read(..., isolate=True)`."""

from fastgan.model.file.isolate import main

main()
