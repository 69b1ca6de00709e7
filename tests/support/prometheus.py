"""Debian's prometheus as a process of the test's own, and promtool: rules, queries and alerts on the real thing.

From: scrape targets and rule files. To: its HTTP API, on a free loopback port, with its data in the test's folder.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from nexus_stream.embedded.processes import last_lines, spawn, stop_process
from nexus_stream.errors import EmbeddedServiceError
from nexus_stream.host.free_ports import LOOPBACK, free_port

__all__ = ["Prometheus", "QueryRefusedError", "missing_prometheus", "promtool"]

_START_TIMEOUT_SECONDS = 30.0
_PROMTOOL_TIMEOUT_SECONDS = 60.0
_HTTP_TIMEOUT_SECONDS = 30.0


def missing_prometheus() -> str | None:
    """What is missing, for `tests.support.requirements.require`; None when it is there."""
    missing = [program for program in ("prometheus", "promtool") if shutil.which(program) is None]
    return f"no {' and no '.join(missing)} (Debian's package prometheus)" if missing else None


def promtool(*arguments: str | Path) -> tuple[int, str]:
    """Run promtool; its exit code and everything it said."""
    done = subprocess.run(
        ["promtool", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_PROMTOOL_TIMEOUT_SECONDS,
        check=False,
    )
    return done.returncode, done.stdout


class QueryRefusedError(Exception):
    """Prometheus could not parse or evaluate the query; the message is its own."""


class Prometheus:
    """One server that can be asked; a context manager.

    Args:
        folder: For configuration, data and log.
        targets: By job, the addresses to scrape: ``{"nexus-sink": ["127.0.0.1:6067"]}``.
        rule_files: Recording and alerting rules.
        interval_seconds: Between scrapes, and between evaluations.
    """

    def __init__(
        self,
        folder: Path,
        targets: Mapping[str, Sequence[str]],
        rule_files: Sequence[Path] = (),
        interval_seconds: int = 1,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.url = f"http://{LOOPBACK}:{free_port()}"
        self._log = folder / "prometheus.log"
        self._config = folder / "prometheus.yml"
        self._data = folder / "data"
        self._process: subprocess.Popen[bytes] | None = None
        interval = f"{interval_seconds}s"
        config = {
            "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval},
            "rule_files": [str(path) for path in rule_files],
            "scrape_configs": [
                {"job_name": job, "static_configs": [{"targets": list(addresses)}]}
                for job, addresses in targets.items()
            ],
        }
        self._config.write_text(yaml.safe_dump(config), encoding="utf-8")

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The samples of an instant query, now: ``{"metric": {...}, "value": [time, "1"]}`` each.

        Raises:
            QueryRefusedError: it does not parse, or cannot be evaluated.
        """
        answer = self._get("query", query=expression)
        result: list[dict[str, Any]] = answer["result"]
        # A scalar is a pair, not a list of samples.
        return [{"metric": {}, "value": result}] if answer["resultType"] == "scalar" else result

    def targets(self) -> dict[str, str]:
        """The health of each scraped address: ``up``, ``down`` with its error, ``unknown``."""
        return {
            str(target["labels"]["instance"]): f"{target['health']} {target['lastError']}".strip()
            for target in self._get("targets", state="active")["activeTargets"]
        }

    def rules(self) -> list[dict[str, Any]]:
        """All rules with their health, their last error and, of alerts, their state."""
        return [rule for group in self._get("rules")["groups"] for rule in group["rules"]]

    def _get(self, what: str, **parameters: str) -> dict[str, Any]:
        url = f"{self.url}/api/v1/{what}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=_HTTP_TIMEOUT_SECONDS) as response:  # noqa: S310
                answer: dict[str, Any] = json.loads(response.read())["data"]
                return answer
        except urllib.error.HTTPError as error:
            raise QueryRefusedError(json.loads(error.read()).get("error", error.reason)) from error

    def __enter__(self) -> Self:
        argv = [
            "prometheus",
            f"--config.file={self._config}",
            f"--storage.tsdb.path={self._data}",
            f"--web.listen-address={self.url.removeprefix('http://')}",
            "--log.level=warn",
        ]
        self._process = spawn(argv, log_path=self._log, cwd=self._config.parent)
        deadline = time.monotonic() + _START_TIMEOUT_SECONDS
        while self._process.poll() is None and time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(f"{self.url}/-/ready", timeout=2) as answer:  # noqa: S310
                    if answer.status == 200:
                        return self
            except OSError:
                time.sleep(0.1)
        self._stop()
        raise EmbeddedServiceError(f"prometheus did not start:\n{last_lines(self._log)}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._process is not None:
            stop_process(self._process, 10)
            self._process = None
