"""
The README, and the pages it leads to, keep what they say: their programs run, their options are those that there are.
"""

from __future__ import annotations

import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from functools import cache
from hashlib import sha256
from http.client import HTTPConnection
from importlib.metadata import metadata
from io import StringIO
from pathlib import Path
from struct import iter_unpack
from textwrap import dedent
from typing import Any

from pydicom import dcmread
from pydicom.data import get_testdata_file
from twisted.scripts._twistd_unix import ServerOptions as TwistdOptions
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from dcxtwisted.checks import Check
from dcxtwisted.configuration import Configuration, readSetting
from dcxtwisted.endpoints import PortEndpoint
from dcxtwisted.options import Options
from dcxtwisted.part10 import dataSetOffset
from dcxtwisted.sections import Listeners
from dcxtwisted.testing import ListenerInMemory
from dcxtwisted.wire.items import UserIdentityRequest
from tests.interop.dcmtk import requireProgram
from tests.loopback import CHECKOUT, DOCUMENTS, BlockingPeer, Program, directoryFor, twistd
from tests.services.support import DATA, dataSet

#: Where the listeners of the programs are, and the web page: replaced by ports that the system chooses.
PORTS = re.compile(r"\b(?:11112|8080|2762)\b")

# Has the log of a program, which says where it listens, on standard output. The program stays as it is.
LOGGED = """
import runpy, sys
from twisted.logger import globalLogBeginner, textFileLogObserver
globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stdout)], redirectStandardIO=False)
runpy.run_path(sys.argv[1], run_name="__main__")
"""


@cache
def readme() -> str:
    """Return the text of the README."""
    file = CHECKOUT / "README.rst"
    # Where the tests run from an installation, it is the description of what is installed.
    return file.read_text() if file.exists() else str(metadata("dcxtwisted").json["description"])


def page(name: str) -> str:
    """Return the text of one of the pages."""
    return (DOCUMENTS / f"{name}.rst").read_text()


@cache
def everything() -> str:
    """Return the texts of the README and of all pages, one after the other."""
    return "\n".join([readme(), *(path.read_text() for path in sorted(DOCUMENTS.glob("*.rst")))])


def pythonBlocks() -> list[str]:
    """Return the Python code in them, in order."""
    blocks = re.findall(r"^\.\. code-block:: python\n\n((?:    .*\n|\n)+)", everything(), re.MULTILINE)
    return [dedent(block).strip() + "\n" for block in blocks]


def blockWith(text: str) -> str:
    """Return the only block with a text in it."""
    (block,) = (block for block in pythonBlocks() if text in block)
    return block


def commands(text: str) -> list[list[str]]:
    """Return the command lines that stand by themselves, or as literals, in a text, each as its words."""
    joined = re.sub(r" \\\n +", " ", text)
    lines = re.findall(r"^ +((?:openssl req|twistd|storescu) .*)$", joined, re.MULTILINE)
    literals = re.findall(r"``(twistd [^`]+)``", " ".join(joined.split()))
    return [shlex.split(line) for line in [*lines, *literals]]


class CommandLineTests(SynchronousTestCase):
    """The lines that a newcomer copies."""

    def test_literally(self) -> None:
        lines = readme().splitlines()
        for line in (
            "python3 -m venv .venv && .venv/bin/pip install . && .venv/bin/twistd --nodaemon dcxtwisted",
            "python3 -m venv .venv && .venv/bin/pip install '.[test]' && .venv/bin/trial tests",
        ):
            self.assertEqual(lines.count(f"    {line}"), 1, line)

    def test_everyBlockIsTested(self) -> None:
        """By one of the tests below or of the examples, each of which asks for a block by something in it."""
        asked = (
            "from pynetdicom",
            "twisted.web",
            "asyncioEvents",
            "ListenerInMemory",
            '"DCXTWISTED", 11112, None',
            "TakeStoredObject",
            "SecurityContext",
            "ResearchEvents",
            "textFileLogObserver",
            "STDLibLogObserver",
            "class Digests",
        )
        # The loop in the page for those who know the SDK is part of the program that waits.
        excerpt = blockWith('"SCP", 104, None')
        self.assertEqual({*pythonBlocks()}, {*map(blockWith, asked), excerpt})
        compile(excerpt, "excerpt", "exec")

    def test_options(self) -> None:
        """Every option on a command line, and in the table of those for every day, is one."""
        lines = [words for words in commands(everything()) if words[0] == "twistd"]
        self.assertGreater(len(lines), 6)
        table = readme().partition("\nOptions for every day\n")[2].partition("\n\n\n")[0]
        given = [shlex.split(text) for text in re.findall(r"``(--[^`]+)``", table)]
        self.assertGreater(len(given), 10)
        for words in given:
            words += ["certificate.pem"] if words == ["--tls-certificate"] else []
        for words in [*lines, *(["twistd", "dcxtwisted", *words] for words in given)]:
            # What is named with its command, and without its value, is no command line.
            if words[-1] not in ("--settings", "--events") and "dcxtwisted" in words:
                _Parsed().parseOptions(words[words.index("dcxtwisted") + 1 :])
                TwistdOptions().parseOptions(words[1 : words.index("dcxtwisted")])

    def test_second(self) -> None:
        """A second listener in a directory starts with the options that the README has for it, and not without."""
        directory = directoryFor(self)
        first = twistd(self, directory, "--port", "tcp:0:interface=127.0.0.1")
        first.waitFor("send a first object")
        (words,) = (words for words in commands(readme()) if "--pidfile=second.pid" in words)
        port = [word.replace("11113", "0") for word in words[words.index("dcxtwisted") + 1 :]]
        refused = twistd(self, directory, *port)
        self.assertEqual(refused.status(), 1)
        self.assertIn("Another twistd server is running", refused.output + refused.errors)
        before = words[2 : words.index("dcxtwisted")]
        second = twistd(self, directory, *port, before=before)
        second.waitFor("send a first object")
        for program in (first, second):
            program.signal(signal.SIGTERM)
            self.assertEqual(program.status(), 0)


class _Parsed(Options):
    """The options of a command line whose files are not there."""

    def postOptions(self) -> None:
        """Open nothing."""


class TLSTests(SynchronousTestCase):
    """The example, from a certificate to a first object."""

    def setUp(self) -> None:
        if not all(map(shutil.which, ("openssl", "storescu"))):
            raise SkipTest("openssl or storescu is not installed")
        self.directory = directoryFor(self)
        certificate, self.secured, self.sent, *self.known = commands(page("tls"))
        self.make(certificate)

    def make(self, certificate: Sequence[str]) -> None:
        """Make a certificate, by its command line."""
        subprocess.run(certificate, cwd=self.directory, check=True, capture_output=True, timeout=60)

    def send(self, port: str, line: Sequence[str] = ()) -> int:
        """Send a first object, as the example or another line does; return the exit status."""
        file = str(get_testdata_file("CT_small.dcm"))
        command = [{"2762": port, "FILE.dcm": file}.get(word, word) for word in line or self.sent]
        command[0] = requireProgram("storescu")
        return subprocess.run(command, cwd=self.directory, capture_output=True, timeout=60, check=False).returncode

    def listener(self, line: Sequence[str], *more: str) -> tuple[Program, str]:
        """Start a listener by its command line; return it with its port."""
        options = line[3:]
        self.assertEqual(options[:2], ["--tls-port", "2762"])
        program = twistd(self, self.directory, "--tls-port", "tcp:0:interface=127.0.0.1", *options[2:], *more)
        return program, program.waitFor(r"listening on 127\.0\.0\.1:(\d+) with TLS")[1]

    def assertStored(self) -> None:
        """Assert that one object was."""
        (stored,) = self.directory.rglob("*.dcm")
        self.assertGreater(stored.stat().st_size, 30_000)

    def test_example(self) -> None:
        program, port = self.listener(self.secured)
        program.waitFor("send a first object with: storescu \\+tla ")
        self.assertEqual(self.send(port), 0)
        self.assertStored()

    def test_knownClients(self) -> None:
        """Who shows the certificate that was made for it is let in, who shows none is not; with workers too."""
        certificate, listener, sent, *_ = self.known
        self.make(certificate)
        for more in ([], ["--workers", "2"]):
            program, port = self.listener(listener, *more)
            self.assertNotEqual(self.send(port), 0)
            program.waitFor("it showed no certificate, which is required")
            self.assertEqual(list(self.directory.rglob("*.dcm")), [])
            self.assertEqual(self.send(port, sent), 0)
            self.assertStored()
            shutil.rmtree(self.directory / "dicom-store")
            program.signal(signal.SIGTERM)
            self.assertEqual(program.status(), 0)

    def test_program(self) -> None:
        """A listener in a program, with the same certificate."""
        path = self.directory / "program.py"
        path.write_text(PORTS.sub("0", blockWith("SecurityContext")))
        program = Program(self, [sys.executable, "-c", LOGGED, str(path)], self.directory)
        self.assertEqual(self.send(program.waitFor(r"listening on \S+:(\d+) with TLS")[1]), 0)
        self.assertStored()
        program.signal(signal.SIGTERM)
        self.assertEqual((program.status(), program.errors), (0, ""))


class StructureTests(SynchronousTestCase):
    """What merging two changes of it breaks first."""

    def test_sections(self) -> None:
        """No line stands alone that is no underline, and no section is twice in a page."""
        titles = []
        for page, text in enumerate(map(str.splitlines, [readme(), *map(Path.read_text, DOCUMENTS.glob("*.rst"))])):
            for above, line, below in zip(["", *text], text, [*text[1:], ""], strict=False):
                self.assertNotRegex(line, r"^(<<<<<<<|>>>>>>>|\|\|\|\|\|\|\|)")
                if not line.startswith("    "):  # literal blocks hold tables that benchmarks print
                    self.assertLessEqual(len(line), 120, line)
                if re.fullmatch(r"(=+|-+)", line):
                    self.assertEqual((len(line), below), (len(above), ""), f"below {above!r}")
                    titles.append((page, above))
        self.assertIn("Deadlines and limits", [title for _, title in titles])
        self.assertEqual(len(titles), len(set(titles)))

    def test_pages(self) -> None:
        """Every link leads to a file, and the README to every page."""
        linked = set(re.findall(r"<docs/(\S+?)>", readme()))
        self.assertEqual(linked, {path.name for path in DOCUMENTS.iterdir() if path.suffix in (".rst", ".toml")})
        for path in DOCUMENTS.glob("*.rst"):
            text = path.read_text()
            for name in re.findall(r"<([\w./-]+\.(?:rst|toml|py))>", text) + re.findall(r"``(examples/\S+)``", text):
                self.assertTrue((DOCUMENTS / name).is_file(), f"{path.name}: {name}")

    def test_limits(self) -> None:
        """The table of what a peer may take is whole, and has the defaults that there are."""
        section = page("limits").partition("\n\n\n")[0]
        border, *rows, end = re.findall(r"^(?:=+ =+|\S.{68} .+\(``\w+``\))$", section, re.MULTILINE)
        self.assertEqual(border, end)
        documented = dict(reversed(re.findall(r"(\S+?)(?: s)? \(``(\w+)``\)", row)[0]) for row in rows)
        self.assertEqual(len(documented), 10)
        for name, default in documented.items():
            value = getattr(Configuration(), name)
            self.assertEqual(default, "any" if value is None else f"{value:,g}" if value != 1024 else "1024", name)


class ProgramTestCase(SynchronousTestCase):
    """Runs programs of the README in a directory of their own."""

    def setUp(self) -> None:
        self.directory = directoryFor(self)

    def program(self, block: str) -> Program:
        path = self.directory / "program.py"
        path.write_text(PORTS.sub("0", block))
        return Program(self, [sys.executable, "-c", LOGGED, str(path)], self.directory)

    def peer(self, port: int) -> BlockingPeer:
        peer = BlockingPeer(port)
        self.addCleanup(peer.close)
        return peer.established()

    def listenerOf(self, program: Program) -> int:
        return int(program.waitFor(r"listening on \S+:(\d+)")[1])

    def stored(self, uid: str) -> Path:
        return self.directory / "received" / "1.2.4" / "1.2.5" / f"{uid}.dcm"

    def assertEnds(self, program: Program, number: signal.Signals) -> None:
        program.signal(number)
        self.assertEqual((program.status(), program.errors), (0, ""))


class EmbeddingTests(ProgramTestCase):
    """The complete programs."""

    def test_beside(self) -> None:
        """A listener with a web page beside it that counts."""
        program = self.program(blockWith("twisted.web"))
        port = self.listenerOf(program)
        page = int(program.waitFor(r"Site starting on (\d+)")[1])
        self.assertEqual(self.get(page), b"0 objects stored\n")
        peer = self.peer(port)
        for number in (1, 2):
            uid = f"1.2.3.{number}"
            self.assertEqual(peer.storeAnd(dataSet(uid), uid, messageID=number), 0)
            self.assertTrue(self.stored(uid).read_bytes().endswith(dataSet(uid)))
        self.assertEqual(peer.storeAnd(DATA[:-2], "1.2.3", messageID=3), 0xC000)
        self.assertEqual(self.get(page), b"2 objects stored\n")
        self.assertEnds(program, signal.SIGTERM)
        peer.untilClosed()

    def get(self, port: int) -> bytes:
        connection = HTTPConnection("127.0.0.1", port, timeout=60)
        self.addCleanup(connection.close)
        connection.request("GET", "/")
        return connection.getresponse().read()

    def test_asyncio(self) -> None:
        """Events whose coroutines await asyncio; ended by Ctrl-C."""
        program = self.program(blockWith("asyncioEvents"))
        peer = self.peer(self.listenerOf(program))
        self.assertEqual(peer.storeAnd(DATA, "1.2.3"), 0)
        self.assertEqual(program.waitFor("^stored (.*)$")[1], str(self.stored("1.2.3")))
        self.assertTrue(self.stored("1.2.3").read_bytes().endswith(DATA))
        self.assertEnds(program, signal.SIGINT)

    def test_asyncioTerminated(self) -> None:
        program = self.program(blockWith("asyncioEvents"))
        self.assertEqual(self.peer(self.listenerOf(program)).storeAnd(DATA, "1.2.3"), 0)
        self.assertEnds(program, signal.SIGTERM)

    def test_inMemory(self) -> None:
        """Thumbnails of what arrives, and no other file; what is no image is taken too."""
        program = self.program(blockWith("TakeStoredObject"))
        peer = self.peer(self.listenerOf(program))
        self.assertEqual(peer.storeAnd(DATA, "1.2.3"), 0)
        path: Any = get_testdata_file("CT_small.dcm")
        image = dcmread(path)
        file = Path(path).read_bytes()
        uid = image.SOPInstanceUID
        self.assertEqual(peer.storeAnd(file[dataSetOffset(file) :], uid, messageID=2), 0)
        thumbnail = (self.directory / f"{uid}.pgm").read_bytes()
        self.assertEqual(thumbnail[:13], b"P5 32 32 255\n")
        values = [value for (value,) in iter_unpack("<h", image.PixelData)]
        kept = [values[row * 128 + column] for row in range(0, 128, 4) for column in range(0, 128, 4)]
        scale = max(kept) - min(kept)
        self.assertEqual(list(thumbnail[13:]), [(value - min(kept)) * 255 // scale for value in kept])
        self.assertEnds(program, signal.SIGTERM)
        files = sorted(path.name for path in self.directory.rglob("*") if path.is_file())
        self.assertEqual(files, [f"{uid}.pgm", "program.py", "stderr.txt"])

    def logging(self, block: str) -> Program:
        """Start the program under asyncio behind a block that says where the log goes, shown with what it prints."""
        path = self.directory / "program.py"
        path.write_text(f"{block}\n{PORTS.sub('0', blockWith('asyncioEvents'))}")
        shown = "import runpy, sys; sys.stderr = sys.stdout; runpy.run_path(sys.argv[1], run_name='__main__')"
        return Program(self, [sys.executable, "-c", shown, str(path)], self.directory)

    def assertLogged(self, program: Program, start: str) -> None:
        """Assert that lines of the log begin so, and those that the program prints do not."""
        peer = self.peer(int(program.waitFor(rf"^{start}listening on \S+:(\d+)$")[1]))
        self.assertEqual(peer.storeAnd(DATA, "1.2.3"), 0)
        program.waitFor("^stored /")
        self.release(peer)
        program.waitFor(rf"^{start}association from .* released after .*: 1 stored, 0 refused")
        self.assertEnds(program, signal.SIGTERM)

    def release(self, peer: BlockingPeer) -> None:
        peer.release()
        peer.until(lambda: peer.released)

    def test_log(self) -> None:
        """On standard output."""
        self.assertLogged(self.logging(blockWith("textFileLogObserver")), r"\S+ \[dcxtwisted\.\w+#info\] ")

    def test_logOfPython(self) -> None:
        """In ``logging``."""
        self.assertLogged(self.logging(blockWith("STDLibLogObserver")), "INFO:twisted:")

    def test_noLog(self) -> None:
        """A program that says nothing of its log shows failures alone."""
        silent = blockWith("asyncioEvents").replace("return True", "raise ValueError(port)")
        listening = "port = listener.ports[0].getHost().port; print(port, flush=True)"
        self.assertIn("listener.startService()\n", silent)
        path = self.directory / "program.py"
        path.write_text(PORTS.sub("0", silent.replace("startService()\n", f"startService()\n{listening}\n")))
        program = Program(self, [sys.executable, str(path)], self.directory)
        peer = self.peer(int(program.waitFor(r"^(\d+)$")[1]))
        self.assertEqual(peer.storeAnd(DATA, "1.2.3"), 0xA700)
        program.signal(signal.SIGTERM)
        self.assertEqual((program.status(), len(program.lines)), (0, 2))
        self.assertTrue(program.errors.startswith("OnStoreDone failed\nTraceback"), program.errors)
        self.assertNotIn("listening", program.errors)

    def test_digests(self) -> None:
        """Each object's own, of what was sent; none is left behind, that of a failed one neither."""
        made: dict[str, Any] = {}
        exec(compile(blockWith("class Digests"), "digests", "exec"), made)
        events = made["Digests"]()
        listener = ListenerInMemory(events)
        shown = StringIO()
        with redirect_stdout(shown):
            peer, connection = listener.associate()
            for uid, data in (("1.2.1", dataSet("1.2.1")), ("1.2.2", dataSet("1.2.2")), ("1.2.3", DATA[:-2])):
                peer.store(data, uid)
                connection.pump()
        self.assertEqual(peer.statuses, [0, 0, 0xC000])
        digests = [sha256(dataSet(uid)).hexdigest() for uid in ("1.2.1", "1.2.2")]
        # In memory there is no file to be named.
        self.assertEqual(shown.getvalue().splitlines(), [f"{digest} " for digest in digests])
        self.assertEqual(events.digests, {})

    def test_entities(self) -> None:
        """Rules, users and a second AE title: who is not confirmed does not come in, and each has its own store."""
        (self.directory / "passwords").write_text("alice:secret\n")
        program = self.program(blockWith("ResearchEvents"))
        port = self.listenerOf(program)
        self.assertFalse(self.comesIn(port, "DCXTWISTED", b"guessed"))
        self.assertTrue(self.comesIn(port, "DCXTWISTED", b"secret"))
        self.assertTrue(self.stored("1.2.3").is_file())
        self.assertTrue(self.comesIn(port, "RESEARCH", b"secret"))
        self.assertTrue((self.directory / "research" / "1.2.4" / "1.2.5" / "1.2.3.dcm").is_file())
        program.waitFor("^for research: .*1.2.3.dcm$")
        self.assertEnds(program, signal.SIGTERM)

    def comesIn(self, port: int, title: str, passcode: bytes) -> bool:
        """Return whether alice is let in, after she has stored an object where she was."""
        peer = BlockingPeer(port)
        self.addCleanup(peer.close)
        alice = UserIdentityRequest(2, False, b"alice", passcode)
        peer.associate(callingAETitle="CT1", calledAETitle=title, userIdentity=alice)
        peer.until(lambda: peer.accepted or peer.rejected)
        if peer.accepted:
            self.assertEqual(peer.storeAnd(DATA, "1.2.3"), 0)
        return peer.accepted is not None

    def test_unitTest(self) -> None:
        """The test that a reader starts from passes."""
        (self.directory / "test_scanners.py").write_text(blockWith("ListenerInMemory"))
        program = Program(self, [sys.executable, "-m", "twisted.trial", "test_scanners"], self.directory)
        self.assertEqual(program.status(), 0, program.output + program.errors)
        self.assertIn("PASSED (successes=1)", program.output)


class FirstObjectTests(ProgramTestCase):
    """Sending a first object."""

    def test_pynetdicom(self) -> None:
        try:
            import pynetdicom  # noqa: F401  # what the program imports
        except ImportError:
            raise SkipTest("pynetdicom is not installed") from None
        sample: Any = get_testdata_file("CT_small.dcm")
        shutil.copy(sample, self.directory / "FILE.dcm")
        listener = twistd(self, self.directory, "--port", "tcp:0:interface=127.0.0.1")
        port = listener.waitFor(r"storescu -aec DCXTWISTED 127\.0\.0\.1 (\d+) FILE\.dcm")[1]
        (self.directory / "send.py").write_text(blockWith("pynetdicom").replace("11112", port))
        sender = Program(self, [sys.executable, "send.py"], self.directory)
        self.assertEqual(sender.status(), 0, sender.errors)
        self.assertEqual(sender.lines, ["0000"])
        listener.signal(signal.SIGTERM)
        self.assertEqual(listener.status(), 0)
        (stored,) = (self.directory / "dicom-store").rglob("*.dcm")
        sent = (self.directory / "FILE.dcm").read_bytes()
        # Behind the file meta information, which names the sender, all is as in the file.
        _, start, dataSet = sent.partition(b"\x08\x00\x05\x00CS")
        self.assertGreater(len(dataSet), 32768)
        self.assertEqual(stored.read_bytes().partition(start)[2], dataSet)


class ChecksTests(SynchronousTestCase):
    """What is checked."""

    def test_relaxations(self) -> None:
        """Every check that can be relaxed is named, and the example is one."""
        section = page("checks")
        for check in Check:
            self.assertIn(f"``{check.value}``", section)
        example = re.search(r"--set (relaxations=\S+)``", section)
        assert example is not None
        name, value = readSetting(example[1])
        relaxations = Configuration(**{name: value}).relaxations
        self.assertEqual(relaxations["CT1"], {Check.IDENTITY, Check.WHOLENESS})


class OptionsTests(SynchronousTestCase):
    """The options of ``twistd dcxtwisted``."""

    def test_documented(self) -> None:
        """Exactly those that there are, with their defaults."""
        section = page("options")
        documented = {}
        for name, text in re.findall(r"^``--([a-z-]+)``\n((?:    .*\n)+)", section, re.MULTILINE):
            default = re.search(r"Default: (?:``)?(\S+?)(?:``)?\.( |$)", " ".join(text.split()))
            documented[name] = default and default[1]
        options = Options()
        options.parseOptions([])
        names = {name.rstrip("=") for name in options.longOpt} - {"help"}
        actual = {name: options.get(name) or None for name in names}
        # Given where they are used.
        actual["port"] = "11112"
        actual["max-pdu"] = str(Configuration().maximumLength)
        actual["workers"] = str(Listeners().workers)
        self.assertEqual(documented, actual)
        (endpoint,) = options.endpoints
        assert isinstance(endpoint, PortEndpoint)
        self.assertEqual(endpoint._port, 11112)
