"""
Pages of the documentation, of which a part is written by a program and the rest by hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def rewrite(page: Path, name: str, text: str) -> None:
    """
    Put a text into a page in place of the part of that name; at its end where it has none.

    A part stands between two comments in reStructuredText that give its name.
    """
    begin, end = f".. {name}: written by a program, to the end of this part", f".. {name}: the end"
    before = page.read_text() if page.exists() else ""
    after = ""
    if begin in before and end in before:
        before, _, rest = before.partition(begin)
        after = rest.partition(end)[2]
    elif before:
        before = before.rstrip("\n") + "\n\n"
    page.write_text(f"{before}{begin}\n\n{text.strip(chr(10))}\n\n{end}{after or chr(10)}")


def described(facts: Mapping[str, str], commands: list[str], table: str) -> str:
    """Return machine, versions, date, command lines and a table in reStructuredText."""
    listed = "\n".join(f":{name}: {fact}" for name, fact in facts.items())
    return f"{listed}\n\n{block(chr(10).join(commands))}\n\n{block(table)}"


def block(text: str) -> str:
    """Return a literal block."""
    return "::\n\n" + "\n".join(f"    {line}".rstrip() for line in text.rstrip("\n").split("\n"))
