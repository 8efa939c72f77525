"""
What dotted names mean, and what is said of those that mean nothing.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import ClassVar

from twisted.trial.unittest import SynchronousTestCase

from dcxtwisted.dottednames import callableNamed, madeBy


class DottedNameTests(SynchronousTestCase):
    """Names of modules that are written for each test."""

    #: By the path of a module, what is in it.
    modules: ClassVar[dict[str, str]] = {
        "dottedgood.py": "class Events:\n    pass\nnumber = 5\n",
        "dottedimport.py": "import os\n\nimport missingdependency\n",
        "dottedempty.py": "import dottedbare\n",
        "dottedbare.py": "\nraise ImportError\n",
        "dottedsyntax.py": "\ndef Events(:\n",
        "dottedexit.py": "import sys\nsys.exit(3)\n",
        "dottedfails.py": "import json\n\ndef Events():\n    return json.loads('x')\n",
        "dottedpackage/__init__.py": "",
        "dottedpackage/deep.py": "from os import nosuchname\n",
    }

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        for name, text in self.modules.items():
            path = self.directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        self.patch(sys, "path", [str(self.directory), *sys.path])
        self.addCleanup(self.forget)

    def forget(self) -> None:
        for name in [name for name in sys.modules if name.startswith("dotted")]:
            del sys.modules[name]

    def said(self, name: str) -> str:
        error = str(self.assertRaises(ValueError, madeBy, name))
        self.assertTrue(error.startswith(name))
        return error[len(name) :].removeprefix(": ").replace(str(self.directory), "HERE")

    def test_found(self) -> None:
        self.assertEqual(type(madeBy("dottedgood.Events")).__name__, "Events")
        self.assertEqual(callableNamed("dottedgood.Events").__module__, "dottedgood")

    def test_notFound(self) -> None:
        nothing = "no module 'nosuchmodule' is on Python's path (PYTHONPATH=. adds the current directory)"
        self.assertEqual(self.said("nosuchmodule"), nothing)
        self.assertEqual(self.said("nosuchmodule.Events"), nothing)
        self.assertEqual(self.said("dottedgood.event"), "AttributeError: module 'dottedgood' has no attribute 'event'")
        self.assertEqual(self.said("dottedgood.number"), " is nothing that can be called")

    def test_cannotBeImported(self) -> None:
        """The reason, with the line of the module that failed: of the one inside, where it imports another."""
        missing = "ModuleNotFoundError: No module named 'missingdependency' (HERE/dottedimport.py:3)"
        self.assertEqual(self.said("dottedimport.Events"), missing)
        self.assertEqual(self.said("dottedempty.Events"), "ImportError (HERE/dottedbare.py:2)")
        self.assertRegex(
            self.said("dottedpackage.deep.Events"),
            r"^ImportError: cannot import name 'nosuchname' from 'os' .*\(HERE/dottedpackage/deep.py:1\)$",
        )

    def test_syntax(self) -> None:
        """It says itself where it is."""
        self.assertEqual(self.said("dottedsyntax.Events"), "SyntaxError: invalid syntax (dottedsyntax.py, line 2)")

    def test_leaves(self) -> None:
        """A module that ends the program is no reason to end it without a word."""
        self.assertEqual(self.said("dottedexit.Events"), "SystemExit: 3 (HERE/dottedexit.py:2)")

    def test_fails(self) -> None:
        """With the innermost line that is the application's own, not that of a library that it calls."""
        said = "JSONDecodeError: Expecting value: line 1 column 1 (char 0) (HERE/dottedfails.py:4)"
        self.assertEqual(self.said("dottedfails.Events"), said)
        self.assertRegex(
            str(self.assertRaises(ValueError, madeBy, "json.loads")),
            r"^json.loads: TypeError: loads\(\) missing 1 required positional argument: 's'$",
        )
