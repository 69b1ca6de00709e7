"""The template environment, and the format of values: times, numbers, untrusted text.

To: HTML. Everything is escaped. Control characters are shown as visible codes, so a name can neither break the page nor
hide in it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlencode

import orjson
from jinja2 import Environment, PackageLoader, StrictUndefined

from nexus_stream.console.alerts.conditions import Alert, AlertKind
from nexus_stream.console.web.texts import Translate, translator
from nexus_stream.errors import Reason

__all__ = [
    "NO_TENANT",
    "ago",
    "duration",
    "iso",
    "make_environment",
    "pretty_json",
    "rate",
    "session_url",
    "shown_alert",
    "usd",
    "visible",
]

# Stands for an empty tenant in a session's address. A tenant id cannot contain this character.
NO_TENANT = "~"
_DOT_SEGMENTS = frozenset({".", ".."})

# Control characters, and characters that reorder or hide text (Unicode TR 36, bidirectional and invisible).
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")
_SECOND_MS = 1000
_MINUTE_MS = 60 * _SECOND_MS
_HOUR_MS = 60 * _MINUTE_MS
_DAY_MS = 24 * _HOUR_MS
# The last second of the year 9999, datetime's limit.
_LAST_MS = 253_402_300_799_000


def make_environment(language: str = "en") -> Environment:
    """Make the Jinja2 environment: escaping is on, an undefined name is an error, and ``t`` translates."""
    environment = Environment(
        loader=PackageLoader("nexus_stream.console.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {
        "t": translator(language),
        "language": language,
        "session_url": session_url,
        "shown_alert": shown_alert,
        "reasons": frozenset(reason.value for reason in Reason),
    }
    filters: dict[str, Callable[..., str]] = {
        "visible": visible,
        "iso": iso,
        "count": lambda number: f"{number:,}",
        "rate": rate,
        "duration": duration,
        "milliseconds": lambda value: duration(value / 1000),
        "share": share,
        "usd": usd,
    }
    environment.filters |= filters
    return environment


def visible(value: Any) -> str:
    """Replace invisible and reordering characters by their visible codes."""
    return _UNSAFE.sub(lambda match: f"\\u{ord(match.group()):04x}", str(value))


def iso(milliseconds: int) -> str:
    """Format Unix milliseconds as ISO 8601 in UTC, to the second."""
    moment = datetime.fromtimestamp(min(milliseconds, _LAST_MS) / 1000, UTC)
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def ago(milliseconds: int, now_ms: int, translate: Translate) -> str:
    """Format the time since then in its largest unit."""
    passed = now_ms - milliseconds
    for unit_ms, key in (
        (_DAY_MS, "ago.days"),
        (_HOUR_MS, "ago.hours"),
        (_MINUTE_MS, "ago.minutes"),
        (_SECOND_MS, "ago.seconds"),
    ):
        if passed >= unit_ms:
            return translate(key, n=passed // unit_ms)
    return translate("ago.now")


def rate(per_second: float) -> str:
    """Format records per second, with significant digits."""
    if per_second == 0 or per_second >= 100:
        return f"{per_second:,.0f}"
    return f"{per_second:.1f}" if per_second >= 0.1 else f"{per_second:.2f}"


def duration(seconds: float) -> str:
    """Format a duration in its largest unit, with significant digits."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 172_800 else f"{seconds / 86_400:.0f} d"


def share(value: float) -> str:
    """Format a share as a percentage."""
    return f"{100 * value:.1f} %"


def usd(amount: float) -> str:
    """Format US dollars with two decimals, or with four if the amount is below one dollar."""
    return f"${amount:,.2f}" if amount == 0 or amount >= 1 else f"${amount:.4f}"


def shown_alert(alert: Alert) -> tuple[str, str]:
    """Format an alert's value and threshold in the unit of its kind."""
    show: Callable[[float], str]
    match alert.kind:
        case AlertKind.LAG | AlertKind.DEAD_LETTERS:
            show = "{:,.0f}".format
        case AlertKind.ERROR_RATE:
            show = share
        case AlertKind.BUDGET:
            show = usd
        case _:
            show = duration
    return show(alert.value), show(alert.threshold)


def pretty_json(raw: bytes) -> str:
    """Indent JSON. Return anything else as text, with undecodable bytes escaped."""
    try:
        return json.dumps(orjson.loads(raw), indent=2, ensure_ascii=False)
    except (orjson.JSONDecodeError, RecursionError):
        return raw.decode("utf-8", "backslashreplace")


def session_url(tenant_id: str, session_id: str) -> str:
    """Return the address of one session. ``.`` and ``..`` go into the query: browsers would resolve them in a path."""
    if tenant_id in _DOT_SEGMENTS or session_id in {"", *_DOT_SEGMENTS}:
        return f"/sessions/{NO_TENANT}/?{urlencode({'tenant': tenant_id, 'session': session_id})}"
    return f"/sessions/{quote(tenant_id or NO_TENANT, safe='')}/{quote(session_id, safe='')}"
