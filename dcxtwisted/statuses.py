"""
The DIMSE statuses this SCP sends (PS3.7 Annex C, PS3.4 B.2.3), by the names of the standard.
"""

from __future__ import annotations

SUCCESS = 0x0000
COERCION_OF_DATA_ELEMENTS = 0xB000
ELEMENTS_DISCARDED = 0xB006
DATA_SET_DOES_NOT_MATCH_SOP_CLASS_WARNING = 0xB007
OUT_OF_RESOURCES = 0xA700
DATA_SET_DOES_NOT_MATCH_SOP_CLASS = 0xA900
CANNOT_UNDERSTAND = 0xC000
INVALID_SOP_INSTANCE = 0x0117
SOP_CLASS_NOT_SUPPORTED = 0x0122
NOT_AUTHORIZED = 0x0124
DUPLICATE_INVOCATION = 0x0210
UNRECOGNIZED_OPERATION = 0x0211
MISTYPED_ARGUMENT = 0x0212


def keepsObject(status: int) -> bool:
    """True where a sender may take the object as stored: success, or one of the Bxxx warnings."""
    return status == SUCCESS or status & 0xF000 == 0xB000
