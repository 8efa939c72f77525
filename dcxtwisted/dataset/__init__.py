"""
What a data set says about itself, read while it streams past: see :mod:`dcxtwisted.dataset.reader`.
"""

from dcxtwisted.dataset.reader import DataSetReader, Head, Wholeness

__all__ = ["DataSetReader", "Head", "Wholeness"]
