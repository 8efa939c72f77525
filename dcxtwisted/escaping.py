"""
What a peer sent, as it may stand in a log line.
"""

from __future__ import annotations

from typing import Final

# The longest value that is right anywhere here, a UID, has 64 characters. A peer that sends a name of 64 KB, once, and
# has a line written about it with each request of 80 bytes, else has 3 GB written for each MB.
_LONGEST: Final = 64


def escaped(text: str) -> str:
    """Return what a peer sent as it may stand in a log line: quoted, printable ASCII, on one line, not over long."""
    if len(text) <= _LONGEST:
        return ascii(text)
    return f"{text[:_LONGEST]!a}... ({len(text)} characters)"
