"""
How a value that a peer chose may stand in the name of a file.
"""

from __future__ import annotations

import re
from hashlib import sha256
from typing import Final

#: The longest piece that ``asFileName`` returns.
LONGEST: Final = 128
#: The length of what ``digest`` returns.
DIGEST: Final = 17

_UNSAFE: Final = re.compile(rb"[^A-Za-z0-9_.-]|^\.")


def asFileName(value: str) -> str:
    """
    Return a value as it may stand in a file name: distinct for distinct values, never empty, never dots.

    Letters, digits, ``_``, ``-`` and dots inside it pass; every other byte stands as ``%XX``. An empty value is
    ``unknown``, a long one is cut and told from others by a digest.
    """
    if not value:
        return "unknown"
    octets = value.encode("latin-1", "backslashreplace")
    text = _UNSAFE.sub(lambda match: b"%%%02X" % match.group()[0], octets).decode("ascii")
    return text if len(text) <= LONGEST else text[: LONGEST - DIGEST] + digest(octets)


def digest(octets: bytes) -> str:
    """Return what tells one cut text from another: a tilde, which no escaped value has, and 16 hex digits."""
    return "~" + sha256(octets).hexdigest()[:16]
