"""An SQL file as its statements, as the Supabase CLI splits it: at semicolons outside quotes, bodies and comments.

From: migration files. To: migrate.py, which runs and records them one by one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

__all__ = ["essence", "split_statements", "without_comments"]

# One of these at a time; whatever else there is, is one plain character (PostgreSQL manual, 4.1 "Lexical Structure").
_TOKEN = re.compile(
    r"""
    (?P<comment> --[^\n]* )
  | (?P<block> /\* )
  | (?P<escaped> (?<![A-Za-z0-9_]) [eE]' (?: [^'\\] | \\. | '' )* ' )
  | (?P<quoted> ' (?: [^'] | '' )* ' | " (?: [^"] | "" )* " )
  | (?P<dollar> (?<![A-Za-z0-9_$]) \$ (?P<tag> (?: [A-Za-z_] [A-Za-z0-9_]* )? ) \$ .*? \$ (?P=tag) \$ )
  | (?P<end> ; )
  | (?P<plain> . )
    """,
    re.VERBOSE | re.DOTALL,
)


def split_statements(sql: str) -> list[str]:
    """The statements, without their semicolons and the space around them. Pieces of comment alone are none."""
    statements: list[str] = []
    text = ""
    code = False
    for kind, token in [*_tokens(sql), ("end", ";")]:
        if kind == "end":
            if code:
                statements.append(text.strip())
            text, code = "", False
            continue
        text += token
        code = code or (kind != "comment" and not token.isspace())
    return statements


def essence(statements: Iterable[str]) -> str:
    """What is left without comments, white space and statement ends: equal when two texts do the same."""
    return "".join(
        re.sub(r"\s+", "", token)
        for statement in statements
        for kind, token in _tokens(statement)
        if kind not in {"comment", "end"}
    )


def _tokens(sql: str) -> Iterator[tuple[str, str]]:
    position = 0
    while position < len(sql):
        match = _TOKEN.match(sql, position)
        assert match is not None  # noqa: S101 - <plain> matches any character
        kind = match.lastgroup or "plain"
        end = match.end()
        if match["block"] is not None:
            kind, end = "comment", _block_end(sql, position)
        yield kind, sql[position:end]
        position = end


def _block_end(sql: str, position: int) -> int:
    """Past a block comment; they nest."""
    depth = 0
    for mark in re.compile(r"/\*|\*/").finditer(sql, position):
        depth += 1 if mark[0] == "/*" else -1
        if depth == 0:
            return mark.end()
    return len(sql)


def without_comments(statement: str) -> str:
    """The statement as PostgreSQL reads it, comments of a quoted function or DO body included in the body."""
    return "".join(token for kind, token in _tokens(statement) if kind != "comment")
