"""
The options of twistd: what they may say, and what is said where they say something else.
"""

from __future__ import annotations

import os
import re
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from io import StringIO
from pathlib import Path
from typing import Any

from twisted.copyright import version as twistedVersion
from twisted.internet import reactor as _reactor
from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.python import usage
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from dcxtwisted import DCXACCEvents, IDCXACCEvents, asyncioEvents
from dcxtwisted.configuration import Configuration
from dcxtwisted.endpoints import PortEndpoint
from dcxtwisted.options import Options
from dcxtwisted.security import SecurityContext
from dcxtwisted.wire.framing import COMPILED
from tests.certificates import Files, selfSigned

reactor: Any = _reactor

LOOPBACK = "tcp:0:interface=127.0.0.1"


# Providers, named by their dotted names in the options below


class Silent(DCXACCEvents):
    """Provides everything, and does nothing."""


class NoEvents:
    """Provides nothing."""


def failing() -> None:
    """Raise."""
    raise OSError(2, "No such file\nor directory", "/etc/events.conf")


def needingAsyncio() -> IDCXACCEvents:
    """Return events that take a reactor that runs asyncio."""
    return asyncioEvents(DCXACCEvents())


class OptionsTests(SynchronousTestCase):
    """What the command line may say."""

    def setUp(self) -> None:
        self.patch(reactor, "seconds", reactor.seconds)

    def parse(self, *arguments: str) -> Options:
        options = Options()
        options.parseOptions(arguments)
        return options

    def refused(self, *arguments: str) -> str:
        """Return what is said of a bad value: one line on standard error, and exit status 1."""
        errors = StringIO()
        self.patch(sys, "stderr", errors)
        exited = self.assertRaises(SystemExit, self.parse, *arguments)
        self.assertEqual(exited.code, 1)
        text = errors.getvalue()
        self.assertEqual((text.count("\n"), text[-1]), (1, "\n"))
        prefix = "twistd dcxtwisted: "
        self.assertTrue(text.startswith(prefix), text)
        return text[len(prefix) : -1]

    def test_version(self) -> None:
        """The listener's own, where it is installed, and Twisted's."""
        output = StringIO()
        self.patch(sys, "stdout", output)
        exited = self.assertRaises(SystemExit, self.parse, "--version")
        self.assertEqual(exited.code, 0)
        try:
            own = version("dcxtwisted")
        except PackageNotFoundError:
            own = "not installed"
        how = ", compiled" if COMPILED else ""
        self.assertEqual(output.getvalue(), f"dcxtwisted version: {own}{how}\nTwisted version: {twistedVersion}\n")

    def test_help(self) -> None:
        """Every option, with what it does and its default."""
        text = Options().getUsage(width=200)
        self.assertEqual(
            re.findall(r"^ +(--[a-z-]+=?) +(\S+)", text, re.MULTILINE),
            [
                ("--ae-title=", "How"),
                ("--check", "Check"),
                ("--check-called-ae-title", "Reject"),
                ("--config=", "TOML"),
                ("--events=", "Dotted"),
                ("--help", "Display"),
                ("--layout=", "Template"),
                ("--max-pdu=", "Largest"),
                ("--no-fsync", "Acknowledge"),
                ("--port=", "Where"),
                ("--set=", "Any"),
                ("--settings", "Show"),
                ("--store-directory=", "Where"),
                ("--tls-accepted-thumbprints=", "SHA-256"),
                ("--tls-ca=", "PEM"),
                ("--tls-certificate=", "PEM"),
                ("--tls-crl=", "PEM"),
                ("--tls-key=", "PEM"),
                ("--tls-port=", "Where"),
                ("--tls-profile=", "Versions"),
                ("--tls-require-client-certificate", "Let"),
                ("--version", "Show"),
                ("--workers=", "Processes"),
            ],
        )
        for default in (
            "DCXTWISTED",
            "{StudyInstanceUID}/{SeriesInstanceUID}/{SOPInstanceUID}.dcm",
            "131072",
            "11112",
            "dicom-store",
        ):
            self.assertIn(f"[default: {default}", text)
        self.assertIn("port 11112, as DCXTWISTED, and stores below ./dicom-store", " ".join(text.split()))

    def test_noDirectory(self) -> None:
        """A file where the store, or a directory above it, would be: told before anything listens."""
        path = self.mktemp()
        Path(path).write_text("a file")
        for directory in (path, f"{path}/store"):
            said = self.refused("--store-directory", directory)
            self.assertEqual(said, f"--store-directory: {os.path.abspath(path)} is not a directory")

    def test_calledAETitle(self) -> None:
        options = self.parse("--check-called-ae-title", "--ae-title", "MINE")
        self.assertEqual(options.configuration, Configuration(AETitle="MINE", checkCalledAETitle=True))

    def test_defaults(self) -> None:
        options = self.parse()
        self.assertEqual(
            dict(options),
            {
                "ae-title": "DCXTWISTED",
                "check": 0,
                "check-called-ae-title": 0,
                "config": None,
                "store-directory": "dicom-store",
                "layout": "{StudyInstanceUID}/{SeriesInstanceUID}/{SOPInstanceUID}.dcm",
                "max-pdu": None,
                "events": None,
                "no-fsync": 0,
                "tls-certificate": None,
                "tls-key": None,
                "tls-profile": "bcp195",
                "tls-require-client-certificate": 0,
                "workers": None,
            },
        )
        self.assertEqual(options.setup.listeners.workers, 1)
        self.assertEqual((options.tlsEndpoints, options.securityContext), ([], None))
        self.assertEqual(options.configuration, Configuration())
        (endpoint,) = options.endpoints
        assert isinstance(endpoint, PortEndpoint)
        self.assertEqual(endpoint._port, 11112)
        self.assertIsNone(options.provider)

    def test_values(self) -> None:
        options = self.parse(
            *("--ae-title", "MY AE", "--max-pdu", "0", "--port", "104", "--port", LOOPBACK, "--no-fsync"),
            *("--events", "tests.test_options.Silent", "--layout", "{SOPInstanceUID}", "--store-directory", "/x"),
        )
        self.assertEqual(options.configuration, Configuration(AETitle="MY AE", maximumLength=0))
        self.assertEqual(
            [type(endpoint).__name__ for endpoint in options.endpoints], ["PortEndpoint", "TCP4ServerEndpoint"]
        )
        self.assertEqual(type(options.provider).__name__, "Silent")
        self.assertTrue(options["no-fsync"])

    def test_settings(self) -> None:
        """Any setting by its name; what a named option says as well, it overrules."""
        options = self.parse("--ae-title", "A", "--set", "ARTIM=7", "--set", "AETitle=B", "--set", "minimumRate=0")
        self.assertEqual(options.configuration, Configuration(AETitle="B", ARTIM=7, minimumRate=0))

    def test_badSettings(self) -> None:
        self.assertEqual(self.refused("--set", "ARTIM=soon"), "--set: ARTIM takes a number, not 'soon'")
        self.assertEqual(self.refused("--set", "ARTIM=0"), "'ARTIM' must be > 0.0: 0.0")

    def test_workers(self) -> None:
        """Several leave it to each worker to make a provider; its name is looked at."""
        options = self.parse("--workers", "2", "--events", "tests.test_options.failing")
        self.assertEqual((options.setup.listeners.workers, options.provider), (2, None))
        for value in ("0", "65", "-1", "two", "", "1.5", "\u00b2"):
            self.assertEqual(
                self.refused("--workers", value), f"--workers takes a number of processes, 1 to 64, not {value!r}"
            )
        said = self.refused("--workers", "2", "--events", "missing")
        self.assertEqual(
            said, "--events missing: no module 'missing' is on Python's path (PYTHONPATH=. adds the current directory)"
        )
        said = self.refused("--check", "--workers", "2", "--events", "tests.test_options.failing")
        self.assertTrue(said.startswith("--events tests.test_options.failing: FileNotFoundError: "), said)

    def test_badPort(self) -> None:
        self.assertEqual(self.refused("--port", "70000"), "a port number is 0 to 65535, not 70000")
        for value in ("tcp:x", "-1", "", "nonsense:1"):
            said = self.refused("--port", "11112", "--port", value)
            self.assertTrue(said.startswith(f"{value!r} is neither a port number nor an endpoint: "), said)

    def test_badAETitle(self) -> None:
        for value in ("", " ", "A" * 17, "A\\B", "\u00c4", "A\nB"):
            self.assertEqual(
                self.refused("--ae-title", value),
                f"an AE title is 1 to 16 printable ASCII characters without a backslash, not {value!r}",
            )

    def test_badMaximum(self) -> None:
        for value in ("7", "-5", "4294967296"):
            said = self.refused("--max-pdu", value)
            self.assertRegex(
                said, rf"^the maximum PDU length is 0 \(no limit\) or \d+ to 4294967295 bytes, not {value}$"
            )
        for value in ("", "16x", "1.5"):
            said = f"--max-pdu takes a whole number of bytes, or of K, M, G or T as 512M, not {value!r}"
            self.assertEqual(self.refused("--max-pdu", value), said)
        self.assertEqual(self.parse("--max-pdu", "16k").configuration.maximumLength, 16384)

    def test_badLayout(self) -> None:
        for value, said in (
            ("", "the layout is empty"),
            ("{PatientID}", "layout '{PatientID}' lacks {SOPInstanceUID}: objects would share a name"),
            ("../{SOPInstanceUID}", "layout '../{SOPInstanceUID}' has a segment that starts with a dot: '..'"),
        ):
            self.assertEqual(self.refused("--layout", value), said)

    def test_badStoreDirectory(self) -> None:
        self.assertEqual(self.refused("--store-directory", ""), "--store-directory takes a directory, not ''")

    def test_badEvents(self) -> None:
        for name, said in (
            ("missing", "no module 'missing' is on Python's path (PYTHONPATH=. adds the current directory)"),
            ("missing.too", "no module 'missing' is on Python's path (PYTHONPATH=. adds the current directory)"),
            ("tests.test_options.Missing", "AttributeError: "),
            ("", "InvalidName: "),
            (
                "tests.test_options.failing",
                "FileNotFoundError: [Errno 2] No such file or directory: '/etc/events.conf' "
                f"({__file__}:{failing.__code__.co_firstlineno + 2})",
            ),
            ("tests.test_options.NoEvents", "its result provides no IDCXACCEvents: The object "),
        ):
            answer = self.refused("--events", name)
            self.assertTrue(answer.startswith(f"--events {name}: {said}"), answer)
        self.assertEqual(
            self.refused("--events", "tests.test_options.LOOPBACK"),
            "--events tests.test_options.LOOPBACK is nothing that can be called",
        )

    def test_eventsOfAsyncio(self) -> None:
        """They take a reactor that runs it: told at once, not with the first object."""
        if isinstance(reactor, AsyncioSelectorReactor):
            raise SkipTest("the tests run on the very reactor")
        name = "tests.test_options.needingAsyncio"
        said = self.refused("--events", name)
        self.assertTrue(said.startswith(f"--events {name}: asyncioEvents needs Twisted's asyncio reactor"), said)

    def test_unknown(self) -> None:
        """twistd's own business."""
        for arguments in (["--colour"], ["--port"], ["stray"]):
            self.assertRaises(usage.UsageError, self.parse, *arguments)

    def test_TLS(self) -> None:
        """Each option, and each list as often as it is given."""
        files = Files(self.mktemp())
        authority = selfSigned()
        issued = authority.issue("listener")
        certificate, key = files.write("c.pem", issued), files.write("k.pem", issued.key)
        one, two = files.write("ca1.pem", authority), files.write("ca2.pem", selfSigned("Other CA"))
        crl = files.write("crl.pem", authority.revoke())
        options = self.parse(
            *("--tls-port", LOOPBACK, "--tls-port", "2762", "--tls-certificate", certificate, "--tls-key", key),
            *("--tls-ca", one, "--tls-ca", two, "--tls-crl", crl, "--tls-require-client-certificate"),
            *("--tls-accepted-thumbprints", "1" * 64, "--tls-accepted-thumbprints", issued.thumbprint),
            *("--tls-profile", "modified-bcp195"),
        )
        self.assertEqual(
            options.securityContext,
            SecurityContext(
                certificate=certificate,
                key=key,
                trusted=(one, two),
                revocationLists=(crl,),
                requireClientCertificate=True,
                acceptedThumbprints=("1" * 64, issued.thumbprint),
                profile="modified-bcp195",
            ),
        )
        self.assertEqual(
            [type(endpoint).__name__ for endpoint in options.tlsEndpoints], ["TCP4ServerEndpoint", "PortEndpoint"]
        )
        self.assertEqual(options.endpoints, [], "no port without TLS that nobody asked for")
        options = self.parse("--port", "104", "--tls-port", "2762", "--tls-certificate", certificate, "--tls-key", key)
        self.assertEqual((len(options.endpoints), len(options.tlsEndpoints)), (1, 1))

    def test_badTLS(self) -> None:
        files = Files(self.mktemp())
        issued = selfSigned("old", days=(-9, -1))
        path = files.write("old.pem", issued, issued.key)
        self.assertEqual(self.refused("--tls-port", "2762"), "--tls-port takes --tls-certificate")
        self.assertEqual(
            self.refused("--tls-port", "2762", "--tls-certificate", "none.pem"),
            "certificate none.pem: No such file or directory",
        )
        self.assertIn("'CN=old': it expired at", self.refused("--tls-port", "2762", "--tls-certificate", path))
        for arguments in (["--tls-certificate", path], ["--tls-ca", path], ["--tls-require-client-certificate"]):
            self.assertEqual(
                self.refused("--port", "104", *arguments),
                "options for TLS without --tls-port, which says where to speak it",
            )
        self.assertEqual(
            self.refused("--tls-port", "1", "--tls-certificate", path, "--tls-profile", "aes"),
            "a TLS profile is bcp195 or modified-bcp195, not 'aes'",
        )
        for option in ("--port", "--tls-port"):
            self.assertIn("TLS is for --tls-port", self.refused(option, "ssl:2762"))

    def test_timersOfTheProvider(self) -> None:
        """Made only when the clock is the one that it will be: a timer set by another would never come due."""
        self.parse("--events", "tests.test_options.Silent")
        self.assertIs(reactor.seconds, time.monotonic)
