"""Make the text of a turn plain: what the eye does not see is removed, and what a page or an editor added is undone.

Removed: invisible characters, Markdown marks, the marks of keycap digits, HTML tags that only format. Replaced: HTML
entities by their characters, a tag that starts a line by a line break. Composed: accents (NFC). Every character of the
result keeps the position of the characters that it was made from, so evidence can point into the text as received.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from html import unescape

__all__ = ["MAX_MARKS", "plain"]

# Unicode's own bound (UAX #15, stream-safe text): sorting a longer run of marks takes quadratic time.
MAX_MARKS = 32

# Soft hyphen, joiners, bidirectional marks, fillers, variation selectors, the frame of a keycap, tag characters.
_INVISIBLE_CLASS = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\u20e3\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e01ef\x00-\x08\x0e-\x1f\x7f"
)
_INVISIBLE = re.compile(f"[{_INVISIBLE_CLASS}]+")
# Only a text with one of these needs more work.
_HINT = re.compile(rf"[&<*_~`\\{_INVISIBLE_CLASS}]")
# An entity that was escaped twice is still one character to the reader.
_ENTITY = re.compile(r"&(?:amp;)?(#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_LINE_TAG = re.compile(r"</?(?:br|p|div|li|ul|ol|tr|td|h[1-6]|blockquote)(?:\s[^<>]{0,200})?/?>", re.IGNORECASE)
_INLINE_TAG = re.compile(r"</?(?:b|i|u|s|em|strong|span|font|mark|small|big)(?:\s[^<>]{0,200})?/?>", re.IGNORECASE)
_ESCAPE = re.compile(r"\\(?=[_*.@+#~`()\[\]-])")
# A pair of marks around words. Not inside a word or an address, whose underscores belong to it.
_EMPHASIS = re.compile(
    rf"(?<![\w*_~`@.+-])(\*{{1,3}}|_{{1,3}}|~{{1,2}}|`)(?=[^\s*_~`{_INVISIBLE_CLASS}])([^\n]{{0,100}}?[^\s*_~`])\1"
    r"(?![\w*_~`@])"
)


def plain(content: str) -> tuple[str, tuple[int, ...] | None]:
    """Return the plain text, and for each of its characters and its end the position in ``content``.

    The positions are None if they did not move.
    """
    origins: list[int] | None = None
    text = content
    if _HINT.search(content):
        text, origins = _without_markup(content)
    if not unicodedata.is_normalized("NFC", text):
        text, origins = _composed(text, origins)
    if origins is None:
        return text, None
    return text, (*origins, len(content))


def _without_markup(content: str) -> tuple[str, list[int] | None]:
    spans = sorted(_marked(content))
    if not spans:
        return content, None
    pieces: list[str] = []
    origins: list[int] = []
    copied = 0
    for start, end, instead in spans:
        if start < copied:
            continue
        pieces += [content[copied:start], instead]
        origins += range(copied, start)
        origins += [start] * len(instead)
        copied = end
    pieces.append(content[copied:])
    origins += range(copied, len(content))
    return "".join(pieces), origins


def _marked(content: str) -> Iterator[tuple[int, int, str]]:
    """Yield each span that is not shown as typed, and the text that is shown instead."""
    for match in _INVISIBLE.finditer(content):
        yield *match.span(), ""
    if "&" in content:
        for match in _ENTITY.finditer(content):
            shown = unescape(f"&{match.group(1)};")
            if not shown.startswith("&") or len(shown) == 1:
                yield *match.span(), _INVISIBLE.sub("", shown)
    if "<" in content:
        for match in _LINE_TAG.finditer(content):
            yield *match.span(), "\n"
        for match in _INLINE_TAG.finditer(content):
            yield *match.span(), ""
    if "\\" in content:
        for match in _ESCAPE.finditer(content):
            yield *match.span(), ""
    for match in _EMPHASIS.finditer(content):
        if match.group(1) == "`" and "```" in content:
            continue
        width = len(match.group(1))
        yield match.start(), match.start() + width, ""
        yield match.end() - width, match.end(), ""


def _composed(text: str, origins: list[int] | None) -> tuple[str, list[int]]:
    composed: list[str] = []
    moved: list[int] = []
    position = 0
    while position < len(text):
        end = position + 1
        last = min(len(text), position + MAX_MARKS)
        while end < last and unicodedata.combining(text[end]):
            end += 1
        cluster = unicodedata.normalize("NFC", text[position:end])
        composed.append(cluster)
        moved += [origins[position] if origins is not None else position] * len(cluster)
        position = end
    return "".join(composed), moved
