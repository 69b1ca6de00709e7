"""An extractor that follows a script."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence

from nexus_stream.contracts.prospect import Signal, SignalName
from nexus_stream.extraction.extractor import Findings, MadeBy, Turn, Usage

__all__ = ["ScriptedExtractor"]

_NAME = re.compile(r"me llamo ([A-ZÁÉÍÓÚÑ]\w+(?: [A-ZÁÉÍÓÚÑ]\w+)*)")


class ScriptedExtractor:
    """Finds "me llamo X" and records its calls. A script can make it fail.

    Args:
        script: Called with the turns before each answer. Its exceptions are the extractor's.

    Attributes:
        calls: The turns of every call, in order.
        gate: While cleared, calls wait.
    """

    labels = MadeBy("claude", "scripted", "scripted-v1")

    def __init__(self, script: Callable[[Sequence[Turn]], None] | None = None) -> None:
        self.calls: list[tuple[Turn, ...]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self._script = script

    async def extract(self, turns: Sequence[Turn], region: str | None = None) -> Findings:
        """Answer as the script says."""
        self.calls.append(tuple(turns))
        await self.gate.wait()
        if self._script is not None:
            self._script(turns)
        for index, turn in enumerate(turns):
            match = _NAME.search(turn.content) if turn.role == "user" else None
            if match is not None:
                signal = Signal(name=SignalName.NOMBRE, turn=index, start=match.start(1), end=match.end(1))
                return Findings(
                    nombre=match[1], signals=(signal,), usage=Usage(input_tokens=100, output_tokens=10, cost_usd=0.001)
                )
        return Findings(usage=Usage(input_tokens=100, output_tokens=10, cost_usd=0.001))

    async def close(self) -> None:
        """Do nothing: there is nothing to release."""
