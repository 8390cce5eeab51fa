"""Splits Rust source into code, comments and string literals; shared by .ci/layers and .ci/prose."""

import re
from typing import NamedTuple

_TOKEN = re.compile(
    r"""
      (?P<comment> //[^\n]* | /\*.*?\*/ )
    | (?P<raw> \b[bc]?r(?P<hashes>\#*)"(?P<rawbody>.*?)"(?P=hashes) )
    | (?P<string> \b[bc]?"(?P<body>(?:\\.|[^"\\])*)" | "(?P<body2>(?:\\.|[^"\\])*)" )
    | (?P<char> '(?:\\[^\n]*?|[^'\\\n])' )
    """,
    re.VERBOSE | re.DOTALL,
)


class Text(NamedTuple):
    """A comment or a string literal and the line on which it begins."""

    line: int
    text: str


class Source(NamedTuple):
    """One file: its code with comments and literals blanked (same offsets and lines), and what was blanked."""

    code: str
    comments: list[Text]
    strings: list[Text]


def split(text: str) -> Source:
    """Separates code from comments and string literals."""
    code, comments, strings = [], [], []
    end = 0
    for token in _TOKEN.finditer(text):
        code.append(text[end : token.start()])
        code.append(_blank(token[0]))
        end = token.end()
        line = text.count("\n", 0, token.start()) + 1
        if token["comment"] is not None:
            comments.append(Text(line, token["comment"]))
        elif token["char"] is None:
            body = next(token[name] for name in ("rawbody", "body", "body2") if token[name] is not None)
            strings.append(Text(line, body))
    code.append(text[end:])
    return Source("".join(code), comments, strings)


def without_tests(code: str) -> str:
    """Blanks every item under `#[cfg(test)]`; `code` must come from `split`."""
    attribute = re.compile(r"#!?\[cfg\((?:test|all\(test\b[^\]]*)\)\]")
    while found := attribute.search(code):
        end = _item_end(code, found.end())
        code = code[: found.start()] + _blank(code[found.start() : end]) + code[end:]
    return code


def closing(code: str, opening: int) -> int:
    """The offset just behind the bracket that closes the one at `opening`."""
    depth = 0
    for at in range(opening, len(code)):
        depth += (code[at] in "{[(") - (code[at] in "}])")
        if depth == 0:
            return at + 1
    return len(code)


def _item_end(code: str, at: int) -> int:
    while at < len(code):
        if code[at] == ";" or code[at] == ",":
            return at + 1
        if code[at] in "[(":
            at = closing(code, at)
        elif code[at] == "{":
            at = closing(code, at)
            # The braces of `use a::{b, c};` do not end the item.
            rest = code[at:].lstrip()
            return at + code[at:].index(";") + 1 if rest.startswith(";") else at
        elif code[at] == "}":
            return at
        else:
            at += 1
    return at


def _blank(text: str) -> str:
    return re.sub(r"[^\n]", " ", text)
