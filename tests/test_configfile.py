"""The configuration file: what each section says, every error with its path, and the file read again."""

from __future__ import annotations

import os
import re
import tomllib
from io import StringIO
from pathlib import Path

import attrs
from twisted.cred.credentials import IUsernamePassword
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dcxtwisted.acceptor import DCXACC
from dcxtwisted.checks import Check, relaxationsFrom
from dcxtwisted.configfile import ConfigurationFileError, readFile
from dcxtwisted.configuration import CHANGEABLE, Configuration, Duplicates, MemoryOverflow
from dcxtwisted.events import DCXACCEvents
from dcxtwisted.options import Options
from dcxtwisted.policy import Rule
from dcxtwisted.sections import (
    DEFAULT_STORE,
    SETTINGS,
    Application,
    EntitySection,
    Listeners,
    Setup,
    Storage,
    pathOf,
)
from dcxtwisted.security import SecurityContext
from dcxtwisted.setups import Given, Reload
from dcxtwisted.users import Passwords, Users
from tests.certificates import Issued, pem, selfSigned
from tests.loopback import DOCUMENTS

EXAMPLE = DOCUMENTS / "dcxtwisted.toml"


class NoChecker:
    """What is no checker."""


def failing() -> None:
    raise RuntimeError("no directory")


def passwords() -> Passwords:
    return Passwords({b"alice": b"x"})


def pemOf(issued: Issued) -> bytes:
    return pem(issued, issued.key)


class FileTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        self.path = str(self.directory / "test.toml")

    def read(self, text: str) -> Setup:
        Path(self.path).write_text(text)
        return readFile(self.path, Clock())

    def errors(self, text: str) -> list[str]:
        error = self.assertRaises(ConfigurationFileError, self.read, text)
        self.assertEqual(str(error), "; ".join(error.errors))
        return list(error.errors)


class ReadTests(FileTestCase):
    """What a file says."""

    def test_empty(self) -> None:
        """Nothing but the defaults."""
        self.assertEqual(self.read(""), Setup())

    def test_sections(self) -> None:
        """Every part as it is meant, with paths relative to the file."""
        setup = self.read(
            """
            [listeners]
            ports = [104, "tcp:11112:interface=127.0.0.1"]
            [storage]
            directory = "store"
            layout = "{SOPInstanceUID}"
            durable = false
            duplicates = "replace"
            [application]
            events = "dcxtwisted.events.DCXACCEvents"
            [negotiation]
            AETitle = "MAIN"
            transferSyntaxPreference = ["1.2.840.10008.1.2.1"]
            [memory]
            memoryOverflow = "wait"
            [limits]
            maximumAssociations = 5
            maximumAssociationsPerAETitle = "none"
            [deadlines]
            ARTIM = 10
            minimumRate = 0.5
            [quirks]
            strict = true
            relaxations = {CT1 = ["identity"]}
            [[policy]]
            allow = false
            networks = ["192.0.2.0/24"]
            reject = "1/1/3"
            [[policy]]
            allow = true
            services = ["storage"]
            [users]
            checkers = ["tests.test_configfile.passwords"]
            required = true
            [[entities]]
            AETitle = "TWO "
            directory = "/srv/two"
            events = "dcxtwisted.DCXACCEvents"
            """
        )
        self.assertEqual(
            setup,
            Setup(
                listeners=Listeners(ports=(104, "tcp:11112:interface=127.0.0.1")),
                storage=Storage(directory=str(self.directory / "store"), layout="{SOPInstanceUID}", durable=False),
                application=Application(events="dcxtwisted.events.DCXACCEvents"),
                settings={
                    "AETitle": "MAIN",
                    "transferSyntaxPreference": ("1.2.840.10008.1.2.1",),
                    "duplicates": Duplicates.REPLACE,
                    "memoryOverflow": MemoryOverflow.WAIT,
                    "maximumAssociations": 5,
                    "maximumAssociationsPerAETitle": None,
                    "ARTIM": 10,
                    "minimumRate": 0.5,
                    "strict": True,
                    "relaxations": relaxationsFrom({"CT1": [Check.IDENTITY]}),
                },
                policy=(
                    Rule(allow=False, networks=["192.0.2.0/24"], reject="1/1/3"),
                    Rule(allow=True, services=["storage"]),
                ),
                users=Users([passwords()], required=True),
                entities=(EntitySection(AETitle="TWO", directory="/srv/two", events="dcxtwisted.DCXACCEvents"),),
            ),
        )
        self.assertEqual(Configuration(**setup.settings).duplicates, Duplicates.REPLACE)

    def test_settings(self) -> None:
        """Every setting stands in one section."""
        listed = sorted(name for names in SETTINGS.values() for name in names)
        self.assertEqual(listed, sorted(field.name for field in attrs.fields(Configuration)))
        self.assertEqual(pathOf("ARTIM"), "deadlines.ARTIM")

    def test_bytes(self) -> None:
        """Sizes as they are given to --set, as texts; numbers are bytes."""
        text = "[memory]\nmemoryBudget = '1G'\nspillBudget = 2048\n[limits]\nmaximumObjectSize = '64K'\n"
        setup = self.read(text)
        self.assertEqual(setup.settings, {"memoryBudget": 1073741824, "spillBudget": 2048, "maximumObjectSize": 65536})
        self.assertEqual(self.read("[limits]\nmaximumObjectSize = 'none'").settings, {"maximumObjectSize": None})

    def test_changeable(self) -> None:
        """Limits, deadlines and relaxations change without a restart."""
        self.assertEqual(CHANGEABLE, {*SETTINGS["limits"], *SETTINGS["deadlines"], "relaxations"})

    def test_TLS(self) -> None:
        """Files of [tls] are those beside the file, and read."""
        ca = selfSigned("CA")
        (self.directory / "c.pem").write_bytes(pemOf(ca.issue("localhost")))
        text = '[listeners]\ntlsPorts = [2762]\n[tls]\ncertificate = "c.pem"\nprofile = "modified-bcp195"\n'
        setup = self.read(text)
        self.assertEqual(
            SecurityContext(**setup.tls),
            SecurityContext(certificate=str(self.directory / "c.pem"), profile="modified-bcp195"),
        )
        thumbprints = text + 'acceptedThumbprints = ["@list", "' + "ab" * 32 + '"]\ntrusted = ["ca.pem"]\n'
        (self.directory / "list").write_text("cd" * 32)
        (self.directory / "ca.pem").write_bytes(pemOf(ca))
        setup = self.read(thumbprints)
        self.assertEqual(setup.tls["acceptedThumbprints"], (f"@{self.directory / 'list'}", "ab" * 32))
        self.assertEqual(setup.tls["trusted"], (str(self.directory / "ca.pem"),))
        (error,) = self.errors(text.replace("c.pem", "d.pem"))
        self.assertTrue(error.startswith(f"tls.certificate: certificate {self.directory / 'd.pem'}: No such"), error)
        self.assertEqual(self.errors("[tls]\n"), ["tls: certificate is missing"])

    def test_TLSErrors(self) -> None:
        """Each file of [tls] is told of, and then whether they fit each other."""
        errors = self.errors(
            '[tls]\ncertificate = "1"\nkey = "2"\ntrusted = ["3", "4"]\nrevocationLists = ["5"]\n'
            'acceptedThumbprints = ["@6", "x"]\n'
        )
        self.assertEqual(
            [error.partition(": ")[0] for error in errors],
            [
                "tls.certificate",
                "tls.key",
                "tls.trusted[1]",
                "tls.trusted[2]",
                "tls.revocationLists[1]",
                "tls.acceptedThumbprints[1]",
                "tls.acceptedThumbprints[2]",
            ],
        )
        one, other = selfSigned("one"), selfSigned("other")
        (self.directory / "c.pem").write_bytes(pem(one))
        (self.directory / "k.pem").write_bytes(pem(other.key))
        (error,) = self.errors('[tls]\ncertificate = "c.pem"\nkey = "k.pem"\n')
        self.assertTrue(error.startswith(f"tls: key {self.directory / 'k.pem'}: not that of the first"), error)

    def test_passwords(self) -> None:
        """So is the file of passwords; what is wrong in it says where, not what."""
        (self.directory / "passwords").write_text("alice:s3cret\n")
        (self.directory / "passwords").chmod(0o600)
        setup = self.read('[users]\npasswords = "passwords"\n')
        assert setup.users is not None
        (checker,) = setup.users.checkers
        self.assertEqual(tuple(checker.credentialInterfaces), (IUsernamePassword,))
        self.assertNotIn("s3cret", repr(setup))
        (self.directory / "passwords").write_text("s3cret\n")
        (error,) = self.errors('[users]\npasswords = "passwords"\n')
        self.assertEqual(error, f"users.passwords: {self.directory / 'passwords'}, line 1 is not NAME:PASSWORD")


class ErrorTests(FileTestCase):
    """What is said of a file that is no good."""

    def test_each(self) -> None:
        """Each error has its path, and says what would be taken."""
        for text, error in [
            ("[limit]", "limit: there is no such section; did you mean limits?"),
            ("x = 1", "x: there is no such section; known are application, deadlines, entities, "),
            ("ARTIM = 5", "ARTIM: there is no such section; did you mean deadlines.ARTIM?"),
            ("limits = 5", "limits: takes a table, not 5"),
            (
                "[limits]\nmaximumAssociatons = 5",
                "limits.maximumAssociatons: there is no such setting; did you mean maximumAssociations?",
            ),
            ("[limits]\nARTIM = 5", "limits.ARTIM: there is no such setting; did you mean deadlines.ARTIM?"),
            ("[limits]\nartim = 5", "limits.artim: there is no such setting; did you mean deadlines.ARTIM?"),
            ("[deadlines]\nartim = 5", "deadlines.artim: there is no such setting; did you mean ARTIM?"),
            (
                "[storage]\nmemBudget = 5",
                "storage.memBudget: there is no such setting; did you mean memory.memoryBudget?",
            ),
            ("[limits]\nmaximumAssociations = '5'", "limits.maximumAssociations: takes a whole number, not '5'"),
            ("[limits]\nmaximumAssociations = true", "limits.maximumAssociations: takes a whole number, not True"),
            ("[limits]\nmaximumAssociations = 0", "limits.maximumAssociations: 'maximumAssociations' must be >= 1: 0"),
            (
                "[limits]\nmaximumAssociationsPerAETitle = 'no'",
                "limits.maximumAssociationsPerAETitle: takes a whole number or 'none', not 'no'",
            ),
            (
                "[memory]\nmemoryBudget = '1GB'",
                "memory.memoryBudget: takes a whole number of bytes, or of K, M, G or T as 512M, not '1GB'",
            ),
            (
                "[limits]\nmaximumObjectSize = 1.5",
                "limits.maximumObjectSize: takes a whole number of bytes, or of K, M, G or T as 512M, or 'none', "
                "not 1.5",
            ),
            ("[deadlines]\nARTIM = 'soon'", "deadlines.ARTIM: takes a number, not 'soon'"),
            ("[deadlines]\nARTIM = 0", "deadlines.ARTIM: 'ARTIM' must be > 0.0: 0"),
            ("[deadlines]\nARTIM = nan", "deadlines.ARTIM: 'ARTIM' must be > 0.0: nan"),
            ("[quirks]\nstrict = 'no'", "quirks.strict: takes true or false, not 'no'"),
            ("[quirks]\nstrict = 1", "quirks.strict: takes true or false, not 1"),
            ("[quirks.relaxations]\nX = 'identity'", "quirks.relaxations: takes a table of lists of checks"),
            ("[quirks.relaxations]\nX = ['all']", "quirks.relaxations: "),
            ("[negotiation]\nAETitle = '12345678901234567'", "negotiation.AETitle: an AE title is 1 to 16"),
            ("[negotiation]\nmaximumLength = 3", "negotiation.maximumLength: the maximum PDU length is 0"),
            ("[negotiation]\ntransferSyntaxPreference = 'x'", "negotiation.transferSyntaxPreference: takes a list of"),
            ("[negotiation]\ntransferSyntaxPreference = ['x']", "negotiation.transferSyntaxPreference: a preferred"),
            (
                "[storage]\nduplicates = 'both'",
                "storage.duplicates: takes 'keep-both' or 'replace' or 'keep-first' or 'refuse', not 'both'",
            ),
            ("[storage]\nduplicates = []", "storage.duplicates: takes 'keep-both' or"),
            ("[storage]\ndirectory = ''", "storage.directory: "),
            ("[storage]\ndirectory = 'test.toml/store'", "storage.directory: "),
            ("[listeners]\nworkers = 0", "listeners.workers: "),
            ("[listeners]\nworkers = '2'", "listeners.workers: takes a whole number, not '2'"),
            ("[storage]\nlayout = '{Nonsense}'", "storage.layout: "),
            ("[storage]\ndirectry = 'x'", "storage.directry: there is no such setting; did you mean directory?"),
            ("[listeners]\nports = 104", "listeners.ports: takes a list of port numbers and endpoint strings, not 104"),
            ("[listeners]\nports = [104, 70000]", "listeners.ports[2]: a port number is 0 to 65535, not 70000"),
            ("[listeners]\nports = ['ssl:1']", "listeners.ports[1]: 'ssl:1': TLS is for"),
            ("[application]\nevents = 'no.such.thing'", "application.events: no.such.thing: "),
            ("[application]\nevents = 'dcxtwisted.__doc__'", "application.events: dcxtwisted.__doc__ is nothing that"),
            ("[tls]\ncertificate = 5", "tls.certificate: takes a text, not 5"),
            ("[limits]\n'a b' = 1", "limits.'a b': there is no such setting; known are maximumAssociations, "),
            ('"\\n\\u001b" = 1', r"'\n\x1b': there is no such section; known are application"),
            ("policy = 5", "policy: takes tables, each headed [[policy]], not 5"),
            ("[policy]\nallow = true", "policy: takes tables, each headed [[policy]]"),
            ("[[policy]]", "policy[1]: allow is missing"),
            ("[[policy]]\nallow = 'yes'", "policy[1].allow: takes true or false, not 'yes'"),
            (
                "[[policy]]\nallow = true\n[[policy]]\nalow = true\nallow = true",
                "policy[2].alow: there is no such setting; did you mean allow?",
            ),
            ("[[policy]]\nallow = true\nnetworks = ['192.0.2.7/24']", "policy[1].networks: not a network, as"),
            ("[[policy]]\nallow = true\nservices = ['find']", "policy[1].services: services are storage and"),
            ("[[policy]]\nallow = true\nreject = '1/2/3'", "policy[1].reject: there is no rejection 1/2/3"),
            ("[[policy]]\nallow = true\nreject = 113", "policy[1].reject: takes a text, as '1/1/1', not 113"),
            ("[[policy]]\nallow = true\nTLSThumbprints = ['x']", "policy[1].TLSThumbprints: a SHA-256"),
            ("[users]\ncheckers = ['tests.test_configfile.NoChecker']", "users.checkers[1]: tests.test_configfile.NoC"),
            (
                "[users]\ncheckers = ['tests.test_configfile.failing']",
                "users.checkers[1]: tests.test_configfile.failing: R",
            ),
            ("[users]\npasswords = 'none'", "users.passwords: "),
            ("[[entities]]\nAETitle = 'X'", "entities[1]: directory is missing"),
            ("[[entities]]\nAETitle = ' '\ndirectory = 'x'", "entities[1].AETitle: an AE title is 1 to 16"),
            ("[[entities]]\nAETitle = 'X'\ndirectory = 'x'\nlayout = '{X}'", "entities[1].layout: "),
            ("[[entities]]\nAETitle = 'X'\ndirectory = 'x'\nevents = 'no'", "entities[1].events: no: "),
        ]:
            with self.subTest(text=text):
                said = self.errors(text)
                self.assertEqual([each[: len(error)] for each in said], [error])

    def test_all(self) -> None:
        """Every error is told, not the first alone."""
        errors = self.errors(
            "nonsense = 1\n[limits]\nmaximumAssociations = 0\nX = 1\n[deadlines]\nARTIM = 'x'\n[storage]\n"
            "layout = '{X}'\n[[policy]]\n[[policy]]\nallow = true\nservices = []\nreject = 'x'\n[users]\n"
            "passwords = 'x'\n[tls]\nkey = 1\n"
        )
        self.assertEqual(
            sorted(error.partition(": ")[0] for error in errors),
            [
                "deadlines.ARTIM",
                "limits.X",
                "limits.maximumAssociations",
                "nonsense",
                "policy[1]",
                "policy[2].reject",
                "policy[2].services",
                "storage.layout",
                "tls",
                "tls.key",
                "users.passwords",
            ],
        )

    def test_file(self) -> None:
        """A file that is not there, and one that is no TOML, are told with their path."""
        error = self.assertRaises(ConfigurationFileError, readFile, "/no/such", Clock())
        self.assertEqual(error.errors, ["/no/such cannot be read: No such file or directory"])
        (said,) = self.errors("[limits\n")
        self.assertTrue(said.startswith(f"{self.path} is not TOML: "), said)
        Path(self.path).write_bytes(b"x = '\xff'")
        error = self.assertRaises(ConfigurationFileError, readFile, self.path, Clock())
        self.assertTrue(error.errors[0].startswith(f"{self.path} is not TOML: "), error.errors)
        for text in ("x = " + "[" * 20000, "x = " + "9" * 5000):
            (said,) = self.errors(text)
            self.assertTrue(said.startswith(f"{self.path} is not TOML: "), said)
        os.unlink(self.path)
        os.mkfifo(self.path)
        error = self.assertRaises(ConfigurationFileError, readFile, self.path, Clock())
        self.assertEqual(error.errors, [f"{self.path} cannot be read: a pipe with nothing in it"])

    def test_pipe(self) -> None:
        """What a shell makes of ``--config <(...)``."""
        reading, writing = os.pipe()
        os.write(writing, b"[limits]\nmaximumAssociations = 5\n")
        os.close(writing)
        self.addCleanup(os.close, reading)
        self.assertEqual(readFile(f"/dev/fd/{reading}", Clock()).settings, {"maximumAssociations": 5})

    def test_asWindowsWritesIt(self) -> None:
        """With a mark in front of it, and carriage returns."""
        Path(self.path).write_bytes(b"\xef\xbb\xbf[limits]\r\nmaximumAssociations = 5\r\n")
        self.assertEqual(readFile(self.path, Clock()).settings, {"maximumAssociations": 5})


class ExampleTests(FileTestCase):
    """The file in docs."""

    def test_loads(self) -> None:
        """It is good as it is, and has every setting with its default."""
        text = EXAMPLE.read_text()
        setup = self.read(text)
        given = dict(setup.settings)
        self.assertEqual(given.pop("relaxations"), {"OLDBOX": frozenset({Check.UID_LENGTH, Check.IDENTITY})})
        defaults = attrs.asdict(Configuration(), recurse=False)
        del defaults["relaxations"]
        self.assertEqual(given, defaults)
        self.assertEqual(setup.storage, Storage(directory=str(self.directory / DEFAULT_STORE)))
        self.assertEqual([rule.allow for rule in setup.policy], [False, True, True])
        self.assertEqual([entity.AETitle for entity in setup.entities], ["RESEARCH"])

    def test_switchedOn(self) -> None:
        """So it is with all that is switched off switched on; and then it has all that there is."""
        text = re.sub("^#(?=[^ \n])", "", EXAMPLE.read_text(), flags=re.MULTILINE)
        ca = selfSigned("CA")
        issued = ca.issue("localhost")
        for name, content in [("certificate.pem", pemOf(issued)), ("key.pem", pemOf(issued)), ("ca.pem", pemOf(ca))]:
            (self.directory / name).write_bytes(content)
        (self.directory / "passwords").write_text("alice:x\n")
        (self.directory / "passwords").chmod(0o600)
        self.read(text)
        said = tomllib.loads(text)
        self.assertEqual(set(said), {*SETTINGS, *(field.name for field in attrs.fields(Setup))} - {"settings"})
        self.assertEqual(set(said["tls"]), {field.name for field in attrs.fields(SecurityContext)})
        self.assertEqual(set(said["users"]), {"passwords", "checkers", "required"})
        self.assertEqual(set(said["entities"][0]), {field.name for field in attrs.fields(EntitySection)})


class OptionsTests(FileTestCase):
    """The file among the options of ``twistd dcxtwisted``."""

    def setUp(self) -> None:
        super().setUp()
        from twisted.internet import reactor

        self.patch(reactor, "seconds", reactor.seconds)

    def parse(self, text: str, *arguments: str) -> Options:
        Path(self.path).write_text(text)
        options = Options()
        options.parseOptions(["--config", self.path, *arguments])
        return options

    def ends(self, text: str, *arguments: str) -> tuple[int, str, str]:
        """Return the status, and what is told on standard output and error."""
        output, errors = StringIO(), StringIO()
        self.patch(__import__("sys"), "stdout", output)
        self.patch(__import__("sys"), "stderr", errors)
        exited = self.assertRaises(SystemExit, self.parse, text, *arguments)
        return exited.code, output.getvalue(), errors.getvalue()

    def test_overridden(self) -> None:
        """What options say goes before the file, and what they do not say stays as the file has it."""
        text = """
            [listeners]
            ports = [1]
            [negotiation]
            AETitle = "FILE"
            checkCalledAETitle = true
            maximumLength = 4096
            [storage]
            layout = "{SOPInstanceUID}"
            [deadlines]
            ARTIM = 5
            silenceDeadline = 7
        """
        options = self.parse(text)
        expected = Configuration(
            AETitle="FILE", checkCalledAETitle=True, maximumLength=4096, ARTIM=5, silenceDeadline=7
        )
        self.assertEqual(options.configuration, expected)
        self.assertEqual([getattr(endpoint, "_port", None) for endpoint in options.endpoints], [1])
        self.assertEqual(options.setup.storage, Storage(layout="{SOPInstanceUID}"))
        options = self.parse(
            text,
            *(
                "--ae-title",
                "DCXTWISTED",
                "--max-pdu",
                "0",
                "--set",
                "ARTIM=9",
                "--port",
                "2",
                "--layout",
                "{Modality}/{SOPInstanceUID}",
            ),
            *("--store-directory", "x", "--no-fsync", "--events", "dcxtwisted.DCXACCEvents"),
        )
        self.assertEqual(
            options.configuration, attrs.evolve(expected, AETitle="DCXTWISTED", maximumLength=0, ARTIM=9.0)
        )
        self.assertEqual([getattr(endpoint, "_port", None) for endpoint in options.endpoints], [2])
        self.assertEqual(
            options.setup.storage, Storage(directory="x", layout="{Modality}/{SOPInstanceUID}", durable=False)
        )
        self.assertIsInstance(options.provider, DCXACCEvents)

    def test_check(self) -> None:
        """Where all is good, --check says so and ends with 0; else every error has a line, and the status is 1."""
        self.assertEqual(self.ends("", "--check"), (0, "twistd dcxtwisted: all of it is good\n", ""))
        for more in ((), ("--check",)):
            status, output, errors = self.ends("[limits]\nX = 1\nmaximumAssociations = 0\n", *more)
            self.assertEqual((status, output), (1, ""))
            self.assertEqual(
                [re.sub(r"(: [^:]+):.*", r"\1", line) for line in errors.splitlines()],
                ["twistd dcxtwisted: limits.X", "twistd dcxtwisted: limits.maximumAssociations"],
            )

    def test_together(self) -> None:
        """What is wrong only together is told as well."""
        entity = "[[entities]]\nAETitle = 'X'\ndirectory = 'x'\n"
        events = "[application]\nevents = 'tests.test_configfile.NoChecker'\n"
        for text, error in [
            (entity + entity.replace("'x'", "'y'"), "entities[2].AETitle: 'X' is that of entities[1]"),
            (entity + entity.replace("'X'", "'Y'"), "entities[2].directory: '"),
            (entity + "[limits]\nX = 1\n" + entity, "limits.X: "),
            (entity + "[limits]\nX = 1\n" + entity, "entities[2].AETitle: 'X' is that of entities[1]"),
            ("[storage]\ndirectory = 'x'\n" + entity, "two AE titles have the same store directory: '/"),
            ("[negotiation]\nAETitle = 'X'\n" + entity, "an AE title is there twice: 'X'"),
            (
                "[listeners]\ntlsPorts = [1]\n",
                "--tls-port takes --tls-certificate (or listeners.tlsPorts, tls.certific",
            ),
            (events, "application.events: tests.test_configfile.NoChecker: its result provides no IDCXACCEvents"),
            (
                entity + "events = 'tests.test_configfile.failing'\n",
                "entities[1].events: tests.test_configfile.failing: RuntimeError: no directory",
            ),
        ]:
            with self.subTest(text=text):
                status, _, errors = self.ends(text)
                self.assertEqual(status, 1)
                self.assertIn(error, errors)


class ReloadTests(FileTestCase):
    """The file read again."""

    text = """
        [limits]
        maximumAssociations = 5
        [[policy]]
        allow = true
    """

    def listen(self) -> DCXACC:
        Path(self.path).write_text(self.text)
        clock = Clock()
        self.given = Given({"config": self.path, "ae-title": "MINE"})
        setup, configuration = self.given.settle(clock)
        listener = DCXACC(
            [], storeDirectory=str(self.directory), configuration=configuration, policy=setup.policy, reactor=clock
        )
        listener.addReload(Reload(listener, self.given, setup, clock).prepare)
        return listener

    def test_changes(self) -> None:
        """What can change does, and one line says what; options go before the file again."""
        listener = self.listen()
        self.assertEqual(listener.reload(), [])
        Path(self.path).write_text(
            """
            [limits]
            maximumAssociations = 7
            maximumObjectSize = 1000
            [deadlines]
            eventDeadline = 9
            storeDeadline = 8.5
            [quirks]
            relaxations = {CT1 = ["identity"]}
            [negotiation]
            AETitle = "OTHER"
            [users]
            checkers = ["tests.test_configfile.passwords"]
            [[policy]]
            allow = false
            [[policy]]
            allow = true
            """
        )
        self.assertEqual(
            listener.reload(),
            [
                "quirks.relaxations = CT1:identity, limits.maximumObjectSize = 1000, deadlines.eventDeadline = 9, "
                "deadlines.storeDeadline = 8.5, limits.maximumAssociations = 7, policy (2 rules), users"
            ],
        )
        configuration = listener.configuration
        self.assertEqual(
            configuration,
            Configuration(
                AETitle="MINE",
                maximumAssociations=7,
                maximumObjectSize=1000,
                eventDeadline=9,
                storeDeadline=8.5,
                relaxations={"CT1": ["identity"]},
            ),
        )
        self.assertIs(listener.factory.configuration, configuration)
        self.assertIs(listener.factory.admission.limits, configuration)
        storage = listener._own.storage
        self.assertEqual((storage.eventDeadline.seconds, storage.storeDeadline.seconds), (9, 8.5))
        self.assertEqual(storage.relaxations, configuration.relaxations)
        self.assertEqual(storage.maximumObjectSize, 1000)
        self.assertEqual([rule.allow for rule in listener.policy], [False, True])
        self.assertEqual(listener.users, Users([passwords()]))
        self.assertEqual(listener.reload(), [])

    def test_emptied(self) -> None:
        """A file that was read while an editor wrote it lets nobody in: to do away with all rules takes one more."""
        listener = self.listen()
        users = listener.users = Users([passwords()])
        for text in ("", "[limits]\nmaximumAssociations = 7\n"):
            Path(self.path).write_text(text)
            error = self.assertRaises(ConfigurationFileError, listener.reload)
            self.assertEqual([each.partition(": ")[0] for each in error.errors], ["policy", "users"])
            self.assertEqual((listener.configuration.maximumAssociations, len(listener.policy)), (5, 1))
            self.assertIs(listener.users, users)
        Path(self.path).write_text(self.text + "[users]\n")
        self.assertEqual(listener.reload(), ["users"])

    def test_restart(self) -> None:
        """What takes a restart stays, and is named each time."""
        listener = self.listen()
        before = listener.configuration
        Path(self.path).write_text(
            self.text + "[storage]\nlayout = '{SOPInstanceUID}'\nduplicates = 'replace'\n[listeners]\nports = [1]\n"
        )
        line = "a restart is needed for listeners, storage, storage.duplicates"
        self.assertEqual(listener.reload(), [line])
        self.assertEqual(listener.reload(), [line])
        self.assertEqual(listener.configuration, before)

    def test_broken(self) -> None:
        """Where anything is no good, nothing changes, and all of it is told."""
        listener = self.listen()
        before = listener.configuration
        Path(self.path).write_text("[limits]\nmaximumAssociations = 7\nX = 1\n[deadlines]\nARTIM = 0\n")
        error = self.assertRaises(ValueError, listener.reload)
        self.assertIn("limits.X: there is no such setting", str(error))
        self.assertIn("deadlines.ARTIM: ", str(error))
        self.assertEqual((listener.configuration, len(listener.policy)), (before, 1))
        os.unlink(self.path)
        self.assertRaises(ValueError, listener.reload)
        self.assertEqual(listener.configuration, before)
