"""Makes ``twistd dcxtwisted`` known. There must be no ``__init__.py`` here or above."""

from twisted.application.service import ServiceMaker

dcxtwisted = ServiceMaker(
    "dcxtwisted",
    "dcxtwisted.tap",
    "A DICOM Storage SCP and network listener.",
    "dcxtwisted",
)
