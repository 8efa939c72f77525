"""
What an application names by a dotted name: imported and called, and what to say where that fails.
"""

from __future__ import annotations

import os
import sysconfig
from collections.abc import Callable
from traceback import walk_tb
from typing import Any, Final

from twisted.python.reflect import ModuleNotFound, ObjectNotFound, namedAny

# Modules, and packages, whose frames tell nothing of where the application's own code failed.
_ON_THE_WAY: Final = ("dcxtwisted", "twisted.python.reflect", "importlib")


def callableNamed(name: str) -> Callable[[], Any]:
    """
    Return what a dotted name means.

    :raises ValueError: nothing that can be called, or it cannot be imported; the text says why, and where.
    """
    try:
        named = namedAny(name)
    except (ModuleNotFound, ObjectNotFound):
        module = name.partition(".")[0]
        hint = "PYTHONPATH=. adds the current directory"
        raise ValueError(f"{name}: no module {module!r} is on Python's path ({hint})") from None
    except (Exception, SystemExit) as error:
        # The application's own code: whatever it raises is why it cannot be had.
        raise ValueError(f"{name}: {_told(error)}") from error
    if not callable(named):
        raise ValueError(f"{name} is nothing that can be called")
    return named  # type: ignore[no-any-return]  # seen just now


def madeBy(name: str) -> Any:
    """
    Return what the callable with a dotted name returns.

    :raises ValueError: there is none, or it fails; the text says why, and where.
    """
    make = callableNamed(name)
    try:
        return make()
    except (Exception, SystemExit) as error:
        # As above.
        raise ValueError(f"{name}: {_told(error)}") from error


def _told(error: BaseException) -> str:
    text = str(error)
    kind = type(error).__name__
    return (f"{kind}: {text}" if text else kind) + _place(error)


def _place(error: BaseException) -> str:
    """Return file and line: of the innermost frame that is not in a library, where there is one."""
    if isinstance(error, SyntaxError):
        return ""  # its text has its own
    lines = [
        (frame.f_code.co_filename, line)
        for frame, line in walk_tb(error.__traceback__)
        if not _isOnTheWay(frame.f_globals)
    ]
    libraries = tuple(f"{path}{os.sep}" for path in map(sysconfig.get_path, ("stdlib", "purelib", "platlib")))
    own = [line for line in lines if not line[0].startswith(libraries)] or lines
    return " ({}:{})".format(*own[-1]) if own else ""


def _isOnTheWay(names: dict[str, Any]) -> bool:
    module = str(names.get("__name__", ""))
    return any(module == each or module.startswith(f"{each}.") for each in _ON_THE_WAY)
