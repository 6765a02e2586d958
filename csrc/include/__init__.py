"""The headers of fastgan, for programs in other languages; `python -m fastgan.include`: where."""
