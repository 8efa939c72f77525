"""
DICOM's upper layer and DIMSE as bytes and values: no transport, clock, thread or file is known here.
"""
