"""
Tests for the naming of files.
"""

from __future__ import annotations

import re
from hashlib import sha256
from typing import Any

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dcxtwisted.configuration import DEFAULT_LAYOUT
from dcxtwisted.dataset import Head
from dcxtwisted.stores.layout import KNOWN_ATTRIBUTES, Layout
from dcxtwisted.testing.stores import StoreAssociation, StoreRequest, dataSet, headOf

_HEAD = headOf(dataSet("1.2.3", StudyInstanceUID="1.2.4", SeriesInstanceUID="1.2.5", PatientID="P1"))


def head(**values: Any) -> Head:
    return attrs.evolve(_HEAD, **values)


def request(callingAETitle: str = "SENDER", calledAETitle: str = "STORE") -> StoreRequest:
    association = StoreAssociation()
    association.callingAETitle = callingAETitle
    association.calledAETitle = calledAETitle
    return StoreRequest(association=association)


class TemplateTests(SynchronousTestCase):
    """What a template may be."""

    def assertRefused(self, template: str, *words: str) -> None:
        message = str(self.assertRaises(ValueError, Layout, template))
        self.assertNotIn("\n", message)
        for word in words:
            self.assertIn(word, message)

    def test_default(self) -> None:
        """The default parts studies and series."""
        self.assertEqual(Layout().template, DEFAULT_LAYOUT)
        self.assertEqual(Layout().path(_HEAD, request()), "1.2.4/1.2.5/1.2.3.dcm")

    def test_everyAttribute(self) -> None:
        """Each known attribute is filled in with its own value."""
        values = {name: f"v{number}" for number, name in enumerate(KNOWN_ATTRIBUTES)}
        calls = {name: values.pop(name) for name in ("callingAETitle", "calledAETitle")}
        template = "/".join(f"{name}={{{name}}}" for name in KNOWN_ATTRIBUTES)
        expected = "/".join(f"{name}=v{number}" for number, name in enumerate(KNOWN_ATTRIBUTES))
        self.assertEqual(Layout(template).path(head(**values), request(**calls)), expected)

    def test_literalText(self) -> None:
        """Literal text stands as it is, whatever it means elsewhere."""
        layout = Layout("100% %s ü/{Modality}-{SOPInstanceUID}+.x")
        self.assertEqual(layout.path(_HEAD, request()), "100% %s ü/OT-1.2.3+.x")
        self.assertEqual(Layout("a%b/{SOPInstanceUID}%d").path(_HEAD, request()), "a%b/1.2.3%d")
        self.assertEqual(Layout("a%b/{PatientID}/{SOPInstanceUID}%d").path(_HEAD, request()), "a%b/P1/1.2.3%d")

    def test_unknownAttribute(self) -> None:
        """A name that is not known is refused, and those that are are told."""
        for name in ("PatientName", "", "sopInstanceUID", "0", "SOPInstanceUID.x", "SOPInstanceUID!r"):
            self.assertRefused(f"{{{name}}}/{{SOPInstanceUID}}", f"unknown attribute {name!r}", *KNOWN_ATTRIBUTES)

    def test_paths(self) -> None:
        """Templates that leave the store, or hide in it, or have empty segments, are refused."""
        self.assertRefused("", "empty")
        self.assertRefused("/x/{SOPInstanceUID}", "absolute")
        for template in ("x//{SOPInstanceUID}", "{SOPInstanceUID}/"):
            self.assertRefused(template, "empty segment")
        for segment in (".", "..", ".incoming", ".incoming-x", ".x", ".{Modality}"):
            self.assertRefused(f"{segment}/{{SOPInstanceUID}}", "dot", repr(segment))
            self.assertRefused(f"x/{segment}/{{SOPInstanceUID}}", "dot")
        self.assertRefused("x\0/{SOPInstanceUID}", "NUL")

    def test_braces(self) -> None:
        """Braces that do not match are refused."""
        for template in (
            "{SOPInstanceUID",
            "SOPInstanceUID}",
            "{{SOPInstanceUID}}",
            "{SOPInstanceUID}}",
            "{a{SOPInstanceUID}",
        ):
            self.assertRefused(template, "unbalanced braces")

    def test_instance(self) -> None:
        """A template that would give all objects of a series one name is refused."""
        self.assertRefused("{StudyInstanceUID}/{SeriesInstanceUID}.dcm", "SOPInstanceUID")
        self.assertRefused("SOPInstanceUID", "SOPInstanceUID")

    def test_literalLength(self) -> None:
        """Literal text leaves room for the values."""
        self.assertRefused("x" * 123 + "{SOPInstanceUID}", "too much literal text")
        self.assertEqual(len(Layout("x" * 122 + "{SOPInstanceUID}").path(_HEAD, request())), 127)


class ValueTests(SynchronousTestCase):
    """What values become."""

    def assertValue(self, value: str, expected: str) -> None:
        """Check a value in the quick way (one a segment) and in the other."""
        for template in ("{PatientID}/{SOPInstanceUID}", "{PatientID}/{SOPInstanceUID}{Modality}"):
            path = Layout(template).path(head(PatientID=value, Modality="1"), request())
            self.assertEqual(path.partition("/")[0], expected)
        path = Layout("{callingAETitle}/{SOPInstanceUID}").path(_HEAD, request(value))
        self.assertEqual(path, f"{expected}/1.2.3")

    def test_plain(self) -> None:
        """Letters, digits, dots inside, underscore and minus pass."""
        for value in ("abcXYZ019", "1.2.840.10008", "a_b-c", "-x", "_", "a..b", "a.", "x" * 128):
            self.assertValue(value, value)

    def test_escaped(self) -> None:
        """Every other byte stands in hexadecimal."""
        self.assertValue("..", "%2E.")
        self.assertValue(".", "%2E")
        self.assertValue(".incoming", "%2Eincoming")
        self.assertValue("../../etc/passwd", "%2E.%2F..%2Fetc%2Fpasswd")
        self.assertValue("A B", "A%20B")
        self.assertValue("%2E", "%252E")
        self.assertValue("a\0b\r\n\x1b[2J", "a%00b%0D%0A%1B%5B2J")
        self.assertValue("M\xfcller^J\xff", "M%FCller%5EJ%FF")
        self.assertValue("$(id)`~{}\\:*", "%24%28id%29%60%7E%7B%7D%5C%3A%2A")

    def test_missing(self) -> None:
        """What the data set does not tell is unknown."""
        self.assertValue("", "unknown")

    def test_long(self) -> None:
        """A long value is cut and told from others by its digest; what is long only when escaped, too."""
        value = "x" * 129
        self.assertValue(value, "x" * 111 + "~" + sha256(value.encode()).hexdigest()[:16])
        other = "é" * 43
        self.assertValue(other, "%E9" * 37 + "~" + sha256(other.encode("latin-1")).hexdigest()[:16])
        self.assertValue("é" * 42, "%E9" * 42)

    def test_manyLongInOneSegment(self) -> None:
        """A segment of several long values is cut as a whole, and keeps its extension and the room for ~999."""
        layout = Layout("{PatientID}_{StudyInstanceUID}_{SOPInstanceUID}.dcm")
        paths = [
            layout.path(head(PatientID="p" * 100, StudyInstanceUID="1" * 100, SOPInstanceUID=last * 100), request())
            for last in "12"
        ]
        self.assertEqual([len(path) for path in paths], [250, 250])
        self.assertNotEqual(paths[0], paths[1])
        for path in paths:
            self.assertTrue(re.fullmatch(r"p{100}_1{100}_[12]*~[0-9a-f]{16}\.dcm", path), path)

    def test_noCollisionOfParts(self) -> None:
        """With one value a segment, the quick way never takes a value for two."""
        self.assertEqual(Layout().path(head(StudyInstanceUID="1/2"), request()), "1%2F2/1.2.5/1.2.3.dcm")
        self.assertEqual(
            Layout("x{StudyInstanceUID}y/{SOPInstanceUID}").path(head(StudyInstanceUID=""), request()),
            "xunknowny/1.2.3",
        )

    @settings(max_examples=300, deadline=None)
    @given(st.lists(st.text(st.characters(max_codepoint=255), max_size=300), min_size=4, max_size=4))
    def test_anything(self, values: list[str]) -> None:
        """Whatever values come, the path stays inside, each segment safe, and the ways agree."""
        found = head(
            StudyInstanceUID=values[0], SeriesInstanceUID=values[1], SOPInstanceUID=values[2], PatientID=values[3]
        )
        for template in (DEFAULT_LAYOUT, "{PatientID}{Modality}/{SOPInstanceUID}_{StudyInstanceUID}.dcm"):
            for segment in Layout(template).path(found, request()).split("/"):
                self.assertTrue(re.fullmatch(r"[A-Za-z0-9_%~-][A-Za-z0-9_.%~-]{0,249}", segment), segment)

    @settings(max_examples=300, deadline=None)
    @given(st.text(st.characters(max_codepoint=255), min_size=1), st.text(st.characters(max_codepoint=255), min_size=1))
    def test_distinct(self, one: str, other: str) -> None:
        """Distinct values stay distinct."""
        layout = Layout("{PatientID}/{SOPInstanceUID}")
        paths = {layout.path(head(PatientID=value), request()) for value in (one, other)}
        self.assertEqual(len(paths), len({one, other}))
