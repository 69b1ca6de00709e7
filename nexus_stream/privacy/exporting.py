"""Export all stored data of a person, and list the copies, as one JSON object.

From: the database and the session table. audit.py records each export.
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
    """Find a person and return the stored data.

    Args:
        settings: The settings of the broker and the retentions.
        people: The database.
        selector: The person to find.
        requested_by: The requester for the audit.

    Returns:
        The export, and whether any data about the person is stored.

    Raises:
        BrokerUnavailableError, DatabaseUnavailableError: call this function again.
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
