"""Split an SQL file into statements, as the Supabase CLI does: at semicolons outside quotes, bodies and comments."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

__all__ = ["essence", "split_statements", "without_comments"]

# One token. Any other character is a plain token of its own (PostgreSQL manual, 4.1 "Lexical Structure").
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
    """Return the statements without semicolons and surrounding space. Skip pieces that contain only comments."""
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
    """Return the statements without comments, white space and semicolons, to compare two SQL texts."""
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
    """Return the position after a block comment. Block comments may nest."""
    depth = 0
    for mark in re.compile(r"/\*|\*/").finditer(sql, position):
        depth += 1 if mark[0] == "/*" else -1
        if depth == 0:
            return mark.end()
    return len(sql)


def without_comments(statement: str) -> str:
    """Return the statement without its comments. Comments inside a quoted function or DO body stay."""
    return "".join(token for kind, token in _tokens(statement) if kind != "comment")
