"""Everything that is stored about a person, as one JSON object, and where copies of it are.

From: the database and the session table. To: command.py and the console. Each export is noted (audit.py).
"""

from __future__ import annotations

from typing import Any

from nexus_stream.privacy.audit import audited
from nexus_stream.privacy.copies import remaining_copies
from nexus_stream.privacy.erasing import locate
from nexus_stream.privacy.people import People
from nexus_stream.privacy.selector import Selector
from nexus_stream.settings import Settings

__all__ = ["export"]


async def export(
    settings: Settings, people: People, selector: Selector, requested_by: str
) -> tuple[dict[str, Any], bool]:
    """Find a person and take out what is stored.

    Args:
        settings: Broker, retentions.
        people: The database.
        selector: Who.
        requested_by: For the audit.

    Returns:
        The object, and whether anything was stored about them.

    Raises:
        BrokerUnavailableError, DatabaseUnavailableError: call it again.
    """
    async with audited(people, "export", selector, requested_by) as audit:
        person, states = await locate(settings, people, selector)
        await audit.concerns(person)
        tables = await people.export(person)
        is_known = bool(states) or any(tables.values())
        audit.outcome = "done" if is_known else "nobody found"
    found = {
        "request_id": audit.request_id,
        "tenant_id": person.tenant_id,
        "session_ids": sorted(person.session_ids),
        "fingerprints": sorted(person.fingerprints),
        **tables,
        "session_table": [state for _, state in sorted(states.items())],
        "copies": [copy.as_dict() for copy in remaining_copies(settings)],
    }
    return found, is_known
