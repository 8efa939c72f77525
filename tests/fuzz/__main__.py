"""
Runs one target under atheris until the runs or the seconds are over, or something is found. See README.rst.
"""

from __future__ import annotations

import argparse
import sys
import zlib
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from tests.fuzz.inputs import checkMeasured, minimised

# Of each 64 inputs one is measured: that takes three times as long.
_MEASURED = 63


def main(arguments: Sequence[str]) -> None:
    """Fuzz, or check the files that are named."""
    options = _options(arguments)
    if options.minimise:
        _minimise(options.target, options.files)
    elif options.files:
        _replay(options.target, options.files)
    else:
        _fuzz(options)


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tests.fuzz")
    parser.add_argument("target", choices=("pdu", "commandset", "dataset"))
    parser.add_argument("files", nargs="*", type=Path, help="check these files, or those below, and do not fuzz")
    parser.add_argument("--minimise", action="store_true", help="make the files as small as what is found allows")
    parser.add_argument("--runs", type=int, default=1_000_000, help="executions; default: %(default)s")
    parser.add_argument("--seconds", type=int, default=0, help="at most so long; default: no limit")
    parser.add_argument("--seed", type=int, default=0, help="of the random numbers; default: another each time")
    parser.add_argument(
        "--corpus", type=Path, default=Path("fuzz-corpus"), help="where what was learned is kept; default: %(default)s"
    )
    return parser.parse_args(arguments)


def _replay(target: str, paths: Sequence[Path]) -> None:
    module: Any = import_module(f"tests.fuzz.{target}")
    count = 0
    for path in paths:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                try:
                    checkMeasured(module.check, file.read_bytes(), module.CONSTANT)
                except Exception as error:
                    error.add_note(f"in {file}")
                    raise
                count += 1
    sys.stdout.write(f"{count} files, nothing found\n")


def _minimise(target: str, paths: Sequence[Path]) -> None:
    module: Any = import_module(f"tests.fuzz.{target}")
    for path in paths:
        data = path.read_bytes()
        path.write_bytes(smaller := minimised(lambda each: checkMeasured(module.check, each, module.CONSTANT), data))
        sys.stdout.write(f"{path}: {len(data)} bytes, now {len(smaller)}\n")


def _fuzz(options: argparse.Namespace) -> None:
    import atheris  # only here: nothing else of the tests needs it

    with atheris.instrument_imports(include=["dcxtwisted"]):
        target: Any = import_module(f"tests.fuzz.{options.target}")
        seeds: Any = import_module("tests.fuzz.seeds")
    check: Callable[[bytes], None] = getattr(target, "checkQuickly", target.check)
    corpus = options.corpus / options.target
    given = options.corpus / f"{options.target}-seeds"
    corpus.mkdir(parents=True, exist_ok=True)
    seeds.write(options.target, given)
    dictionary = options.corpus / f"{options.target}.dict"
    dictionary.write_text("".join(f'"{_quoted(word)}"\n' for word in seeds.words(options.target)))

    def run(data: bytes) -> None:
        # By the input and not by a counter: what was found so is found again.
        if zlib.crc32(data) & _MEASURED:
            check(data)
        else:
            checkMeasured(target.check, data, target.CONSTANT)

    flags = {
        "runs": options.runs,
        "max_total_time": options.seconds,
        "seed": options.seed,
        "max_len": target.MAXIMUM_LENGTH,
        "dict": dictionary,
        "artifact_prefix": f"{options.corpus}/{options.target}-",
        "timeout": 10,
        "rss_limit_mb": 2048,  # atheris itself grows by some 60 bytes a run
        "print_final_stats": 1,
    }
    regressions = Path(__file__).parent / "regressions" / options.target
    directories = [str(directory) for directory in (corpus, given, regressions) if directory.is_dir()]
    atheris.Setup([sys.argv[0], *(f"-{name}={value}" for name, value in flags.items()), *directories], run)
    atheris.Fuzz()


def _quoted(word: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word)


if __name__ == "__main__":
    main(sys.argv[1:])
