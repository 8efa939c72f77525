"""
What setup.cfg cannot say: with DCXTWISTED_COMPILED=1 the way of an object is compiled, by mypyc; without, nothing is.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from setuptools import Extension, setup

# What each PDV or object passes. The rest runs once an association or less: compiled it would gain nothing. In these:
# - interfaces are declared behind a class (classImplements), as one with a decorator keeps a dictionary of attributes;
# - there are no coroutines: those of stores.sink, compiled, brought the interpreter down in a test;
# - Logger is given its name, which it cannot find out there;
# - what an application gives is made what is annotated before it comes here: anything else raises TypeError.
COMPILED = [
    "dataset/encodings",
    "dataset/inflation",
    "dataset/reader",
    "dimse",
    "part10",
    "services/identity",
    "services/reception",
    "services/refusals",
    "services/requests",
    "services/scope",
    "services/storage",
    "wire/assembly",
    "wire/association",
    "wire/commandset",
    "wire/framing",
    "wire/messages",
    "wire/values",
]

# The one that the tests have run with: a compiler is nothing to take the latest of unseen.
REQUIREMENTS = ["mypy==2.4.*", "attrs>=23.1"]


def extensions() -> list[Extension]:
    """Return what is to be compiled; without a compiler or mypy the build fails, and does not go on without."""
    from mypyc.build import mypycify

    modules = [str(Path("dcxtwisted", f"{name}.py")) for name in COMPILED]
    made: list[Extension] = mypycify(["--config-file", "mypyc.cfg", *modules], opt_level="3", debug_level="0")
    return made


if os.environ.get("DCXTWISTED_COMPILED", "0") not in ("", "0"):
    # Asked for by pip before there is anything to compile with: what it takes, and what it will be called.
    asked = {"egg_info", "dist_info"} & set(sys.argv)
    setup(setup_requires=REQUIREMENTS, ext_modules=[] if asked else extensions())
else:
    setup()
