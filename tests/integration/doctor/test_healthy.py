"""On a healthy installation the doctor exits with 0. The fields of its JSON are a contract."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jsonschema

if TYPE_CHECKING:
    from tests.integration.doctor.conftest import Doctor

SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["schema_version", "nexus_version", "exit_code", "strict", "seconds", "counts", "findings"],
    "properties": {
        "schema_version": {"const": 1},
        "nexus_version": {"type": "string"},
        "exit_code": {"enum": [0, 1, 78]},
        "strict": {"type": "boolean"},
        "seconds": {"type": "number", "minimum": 0},
        "counts": {
            "type": "object",
            "additionalProperties": False,
            "required": ["ok", "note", "warning", "error"],
            "properties": {name: {"type": "integer"} for name in ("ok", "note", "warning", "error")},
        },
        "findings": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["area", "check", "severity", "found", "why", "fix"],
                "properties": {
                    "area": {"enum": ["settings", "host", "kafka", "postgresql", "claude", "redis"]},
                    "check": {"type": "string", "pattern": r"^[a-z]+\.[a-z_]+$"},
                    "severity": {"enum": ["ok", "note", "warning", "error"]},
                    "found": {"type": "string", "minLength": 1},
                    "why": {"type": "string"},
                    "fix": {"type": "string"},
                },
            },
        },
    },
}


def test_a_healthy_installation_exits_with_0_and_every_area_was_looked_at(doctor: Doctor) -> None:
    code, document = doctor.run_json()

    jsonschema.validate(document, SCHEMA)
    bad = [each for each in document["findings"] if each["severity"] in {"warning", "error"}]
    assert (code, bad) == (0, [])
    assert document["exit_code"] == 0
    checks = {each["check"] for each in document["findings"] if each["severity"] == "ok"}
    assert checks >= {
        "settings.valid",
        "host.data_dir",
        "host.in_flight",
        "kafka.reachable",
        "kafka.topics",
        "kafka.advertised",
        "kafka.lag",
        "postgresql.reachable",
        "postgresql.version",
        "postgresql.migrations",
        "postgresql.grants",
        "postgresql.pooler",
        "postgresql.pool",
        "postgresql.login",
        "postgresql.clock",
    }


def test_the_text_for_people_groups_by_area_and_ends_with_the_verdict(doctor: Doctor) -> None:
    done = doctor.run("--strict")

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    headings = [line for line in done.stdout.splitlines() if line and not line.startswith(" ")]
    assert headings[:-1] == ["settings", "host", "kafka", "postgresql", "claude"]
    assert "0 error, 0 warning" in headings[-1]
    assert headings[-1].endswith("exit code 0")


def test_a_role_gets_only_the_checks_it_needs(doctor: Doctor) -> None:
    _, document = doctor.run_json("--role", "gateway")

    areas = {each["area"] for each in document["findings"]}
    assert areas == {"settings", "host", "kafka"}
    assert not any("group" in each["check"] for each in document["findings"])


def test_offline_uses_no_network(doctor: Doctor) -> None:
    # None of the configured services exists.
    nowhere = {"NEXUS_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1", "SUPABASE_DB_URL": "postgresql://u@127.0.0.1:1/x"}

    code, document = doctor.run_json("--offline", **nowhere)

    assert code == 0
    assert {each["area"] for each in document["findings"]} == {"settings", "host", "claude"}


def test_invalid_settings_exit_with_78_and_are_all_listed(doctor: Doctor) -> None:
    code, document = doctor.run_json(NEXUS_TOPIC_PARTITIONS="none", NEXUS_SETTLE_SECOND="1", NEXUS_SINK_MODE="rows")

    jsonschema.validate(document, SCHEMA)
    assert code == document["exit_code"] == 78
    found = " ".join(each["found"] for each in document["findings"])
    assert all(name in found for name in ("NEXUS_TOPIC_PARTITIONS", "NEXUS_SETTLE_SECOND:", "NEXUS_SINK_MODE"))


def test_a_sink_without_a_database_is_invalid(without_database: Doctor) -> None:
    assert without_database.examine("sink").exit_code(strict=False) == 78
    assert without_database.examine().exit_code(strict=True) == 0


def test_the_doctor_changes_nothing(doctor: Doctor) -> None:
    before = sorted(doctor.folder.rglob("*"))

    doctor.run()

    assert sorted(doctor.folder.rglob("*")) == before
