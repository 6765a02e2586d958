"""FASTGAN_DEBUG: what the engine does, told on stderr while it does it.

    FASTGAN_DEBUG=rewrite,plan fastgan generate model.onnx

A program that imports fastgan is told the same. Unset, it costs nothing where frames are made.
"""

from __future__ import annotations

import os
import sys

from fastgan.errors import ArgumentError

#: The variable; and its words, of which it takes some with commas between, each with what it tells.
VARIABLE = "FASTGAN_DEBUG"
TOPICS = {
    "rewrite": "what each pass fused how often, and what kept its rules from the rest",
    "plan": "the steps of each plan that is made",
    "launch": "each step as it runs",
}


def check() -> None:
    """Look at the words of FASTGAN_DEBUG before anything is made.

    Raises:
        ArgumentError: it has a word that is none.
    """
    _words(os.environ.get(VARIABLE, ""))


def wants(topic: str) -> bool:
    """Whether FASTGAN_DEBUG asks for a key of `TOPICS`.

    Raises:
        ArgumentError: it has a word that is none.
    """
    given = os.environ.get(VARIABLE, "")
    return bool(given) and topic in _words(given)


def tell(topic: str, text: str) -> None:
    """Print a text on stderr, each line under the topic's name: for eyes and for `grep` alike."""
    print("\n".join(f"{topic}: {line}" for line in text.splitlines()), file=sys.stderr, flush=True)


def _words(given: str) -> list[str]:
    words = [word for part in given.split(",") if (word := part.strip())]
    for word in words:
        if word not in TOPICS:
            needed = f"{', '.join(TOPICS)}, or some of them with commas between"
            raise ArgumentError(VARIABLE, repr(word), needed)
    return words
