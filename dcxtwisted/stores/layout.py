"""
Where an object stands below a store's root: a template filled with values that no peer can turn into another path.
"""

from __future__ import annotations

import re
from operator import attrgetter

from dcxtwisted.configuration import DEFAULT_LAYOUT
from dcxtwisted.dataset import Head
from dcxtwisted.filenames import DIGEST, LONGEST, asFileName, digest
from dcxtwisted.interfaces import IStoreRequest

_FROM_HEAD = (
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SOPInstanceUID",
    "SOPClassUID",
    "PatientID",
    "Modality",
    "StudyDate",
)
_FROM_ASSOCIATION = ("callingAETitle", "calledAETitle")

#: What a template may name: attributes of the head of the data set, and of the association.
KNOWN_ATTRIBUTES = _FROM_HEAD + _FROM_ASSOCIATION

# A file system takes 255 bytes; what is left is for the "~999" of a further object under the same name.
_LONGEST_SEGMENT = 250

_PLAIN = r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,127}"
_PIECE = re.compile(r"\{([^{}]*)\}|([^{}]+)")


class Layout:
    """
    The rule by which a store names its files: literal text and ``{attribute}``, segments parted by ``/``.

    :ivar template: the template as given.
    """

    def __init__(self, template: str = DEFAULT_LAYOUT) -> None:
        """
        :raises ValueError: with one line that says what is wrong with the template.
        """
        self.template = template
        self._segments = _parsed(template)
        names = [text for segment in self._segments for isName, text in segment if isName]
        if "SOPInstanceUID" not in names:
            raise ValueError(f"layout {template!r} lacks {{SOPInstanceUID}}: objects would share a name")
        # The quick way is for one value of the head a segment: then a path that matches as a whole can have come
        # from plain values only. All else goes value by value.
        self._plainPath: re.Pattern[str] | None = None
        if len(names) > 1 and all(map(_isSimple, self._segments)):
            self._plainPath = re.compile("/".join(map(_expression, self._segments)))
            self._valuesOf = attrgetter(*names)
            self._format = "/".join(
                "".join("%s" if isName else text.replace("%", "%%") for isName, text in segment)
                for segment in self._segments
            )

    def path(self, head: Head, request: IStoreRequest) -> str:
        """
        Return the path of an object, relative to the store's root.

        Each value stands as ``filenames.asFileName`` returns it.
        """
        if self._plainPath is not None:
            path: str = self._format % self._valuesOf(head)
            if self._plainPath.fullmatch(path) is not None:
                return path
        association = request.association
        return "/".join(
            _filled(
                [
                    (isName, asFileName(getattr(head if text in _FROM_HEAD else association, text)))
                    if isName
                    else (isName, text)
                    for isName, text in segment
                ]
            )
            for segment in self._segments
        )


def _parsed(template: str) -> list[list[tuple[bool, str]]]:
    """Return the segments of a template, each a list of (is an attribute, its name or the literal text)."""
    if not template:
        raise ValueError("the layout is empty")
    if template.startswith("/"):
        raise ValueError(f"layout {template!r} is an absolute path; it is relative to the store")
    if "\0" in template:
        raise ValueError(f"layout {template!r} has a NUL")
    return [_parsedSegment(template, text) for text in template.split("/")]


def _parsedSegment(template: str, text: str) -> list[tuple[bool, str]]:
    if not text:
        raise ValueError(f"layout {template!r} has an empty segment")
    if text.startswith("."):
        # '.', '..', the working directory '.incoming', and all else that a listing hides.
        raise ValueError(f"layout {template!r} has a segment that starts with a dot: {text!r}")
    pieces = []
    position = 0
    for match in _PIECE.finditer(text):
        if match.start() != position:
            break
        position = match.end()
        name, literal = match.groups()
        if name is not None and name not in KNOWN_ATTRIBUTES:
            raise ValueError(
                f"layout {template!r} names an unknown attribute {name!r}; known are {', '.join(KNOWN_ATTRIBUTES)}"
            )
        pieces.append((name is not None, literal if name is None else name))
    if position != len(text):
        raise ValueError(f"layout {template!r} has unbalanced braces")
    if len(_literal(pieces).encode("utf-8", "surrogateescape")) > _LONGEST_SEGMENT - LONGEST:
        raise ValueError(f"layout {template!r} has a segment with too much literal text")
    return pieces


def _literal(pieces: list[tuple[bool, str]]) -> str:
    return "".join(text for isName, text in pieces if not isName)


def _isSimple(pieces: list[tuple[bool, str]]) -> bool:
    names = [text for isName, text in pieces if isName]
    return len(names) <= 1 and all(name in _FROM_HEAD for name in names)


def _expression(pieces: list[tuple[bool, str]]) -> str:
    return "".join(_PLAIN if isName else re.escape(text) for isName, text in pieces)


def _filled(pieces: list[tuple[bool, str]]) -> str:
    """Return a segment of escaped values and literal text, short enough for a file system, its extension kept."""
    segment = "".join(text for _, text in pieces)
    octets = segment.encode("utf-8", "surrogateescape")
    if len(octets) <= _LONGEST_SEGMENT:
        return segment
    isName, extension = pieces[-1]
    ending = b"" if isName else extension.encode("utf-8", "surrogateescape")
    room = _LONGEST_SEGMENT - DIGEST - len(ending)
    return octets[:room].decode("utf-8", "ignore") + digest(octets) + ending.decode("utf-8", "surrogateescape")
