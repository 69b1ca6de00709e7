"""Detect a permission that a running worker has lost, and report it.

The watch checks every half minute, and at once after a hint: a client's error about authorization. ``on_denied`` then
stops the worker. Without the watch a refused fetch, send, commit or login would be retried for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

from aiokafka import errors as kafka_errors

from nexus_stream.errors import AccessDeniedError, BrokerUnavailableError
from nexus_stream.host.log import get_logger
from nexus_stream.kafka.access import principal, require_access
from nexus_stream.kafka.permissions import PermissionRole
from nexus_stream.settings import Settings

__all__ = ["AccessWatch", "is_access_error"]

_log = get_logger(__name__)

_LOOK_SECONDS = 30.0
# A permission that returns within this time (for example a replaced ACL) does not stop the worker.
_CONFIRM_SECONDS = 3.0
_ACCESS_ERRORS = (
    kafka_errors.TopicAuthorizationFailedError,
    kafka_errors.GroupAuthorizationFailedError,
    kafka_errors.ClusterAuthorizationFailedError,
    kafka_errors.SaslAuthenticationFailed,
)


def is_access_error(error: BaseException) -> bool:
    """Whether an error of aiokafka is about a refused login or permission."""
    return isinstance(error, _ACCESS_ERRORS)


class AccessWatch:
    """Runs beside a stage; `hint` may be called from any thread once it runs.

    Args:
        settings: Broker, names of topics and groups.
        role: The role whose permissions are checked.
        on_denied: Called once, with an error that lists the missing permissions.
    """

    def __init__(
        self, settings: Settings, role: PermissionRole, on_denied: Callable[[AccessDeniedError], None]
    ) -> None:
        self._settings = settings
        self._role = role
        self._on_denied = on_denied
        self._loop: asyncio.AbstractEventLoop | None = None
        self._hinted = asyncio.Event()
        self._hint: BaseException | None = None

    def hint(self, error: BaseException) -> None:
        """Check now, if the error is about access."""
        if is_access_error(error) and self._loop is not None:
            self._hint = error
            with contextlib.suppress(RuntimeError):  # the loop is closed: the worker has stopped
                self._loop.call_soon_threadsafe(self._hinted.set)

    def hint_from(self, future: asyncio.Future[Any]) -> None:
        """As a done callback: `hint` with the future's error, if it has one."""
        if not future.cancelled() and (error := future.exception()) is not None:
            self.hint(error)

    async def run(self) -> None:
        """Check until the broker denies a permission."""
        self._loop = asyncio.get_running_loop()
        while True:
            hint, self._hint = self._hint, None
            self._hinted.clear()
            if await self._denied() is not None:
                await asyncio.sleep(_CONFIRM_SECONDS)
                if (denied := await self._denied()) is not None:
                    self._on_denied(denied)
                    return
            elif hint is not None:
                _log.warning(
                    "the broker refused a request, although no known permission is missing",
                    problem=type(hint).__name__,
                    principal=principal(self._settings),
                )
                await asyncio.sleep(_CONFIRM_SECONDS)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._hinted.wait()

    async def _denied(self) -> AccessDeniedError | None:
        try:
            await require_access(self._settings, self._role)
        except AccessDeniedError as error:
            return error
        except BrokerUnavailableError:
            return None  # temporary, and reported elsewhere
        return None
