"""The child process of `read(..., isolate=True)`."""

from fastgan.model_file.isolate import main

main()
