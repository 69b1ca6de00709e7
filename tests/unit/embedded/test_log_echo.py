"""The lines of a process's log that are repeated in the terminal."""

import pytest

from nexus_stream.embedded.log_echo import LogEcho


class _Shown(list[tuple[str, str]]):
    def __call__(self, name: str, line: str) -> None:
        self.append((name, line))


@pytest.mark.parametrize(
    "line",
    [
        '{"event": "record set aside", "level": "warning"}',
        "2026-01-31T12:00:00Z [error    ] database unreachable",
        "2026-01-31 12:00:00,000 WARNING nexus_stream.gateway slow",
        "[2026-01-31 12:00:00,000] [4711] [CRITICAL] worker stops",
        "2026-01-31 12:00:00.000 UTC [4711] FATAL:  the database system is shutting down",
        "\x1b[2m2026-01-31T12:00:00Z\x1b[0m \x1b[31mERROR\x1b[0m \x1b[2mtansu_broker\x1b[0m: address in use",
    ],
)
def test_warnings_and_errors_are_shown(tmp_path, line) -> None:
    shown = _Shown()
    log = tmp_path / "sink.log"
    log.touch()
    echo = LogEcho(shown)
    echo.follow("sink", log)
    log.write_text(f"{line}\n")

    echo.read()

    assert len(shown) == 1
    assert shown[0][0] == "sink"
    assert "\x1b" not in shown[0][1]


@pytest.mark.parametrize(
    "line",
    [
        '{"event": "error rate is fine", "level": "info"}',
        "2026-01-31T12:00:00Z [info     ] record done                    outcome=enriched",
        "2026-01-31 12:00:00,000 INFO nexus_stream.gateway listening",
        "2026-01-31 12:00:00.000 UTC [4711] LOG:  database system is ready to accept connections",
        "2026-01-31T12:00:00Z [info     ] no errors",
        "2026-01-31T12:00:00Z ERROR tansu: 1: producer=None epoch=None",
        '2026-01-31T12:00:00Z ERROR tansu: 1: err=ObjectStore(NotFound { path: "clusters/e/groups/consumers/g.json" })',
    ],
)
def test_other_lines_are_not_shown(tmp_path, line) -> None:
    shown = _Shown()
    log = tmp_path / "sink.log"
    log.touch()
    echo = LogEcho(shown)
    echo.follow("sink", log)
    log.write_text(f"{line}\n")

    echo.read()

    assert shown == []


def test_a_traceback_is_shown_to_its_end_and_only_once(tmp_path) -> None:
    shown = _Shown()
    log = tmp_path / "sink.log"
    log.write_text("2026-01-31 ERROR from the run before\n")
    echo = LogEcho(shown)
    echo.follow("sink", log)
    with log.open("a") as file:
        file.write('Traceback (most recent call last):\n  File "x.py", line 1, in <module>\n    boom()\n')
        file.write("ValueError: boom\n2026-01-31 12:00:00 INFO went on\n")

    echo.read()
    echo.read()

    lines = [line for _, line in shown]
    assert [line.strip() for line in lines] == [
        "Traceback (most recent call last):",
        'File "x.py", line 1, in <module>',
        "boom()",
        "ValueError: boom",
    ]


def test_a_line_is_shown_when_it_is_complete(tmp_path) -> None:
    shown = _Shown()
    log = tmp_path / "sink.log"
    log.touch()
    echo = LogEcho(shown)
    echo.follow("sink", log)

    log.write_text("12:00:00 ERROR: half a ")
    echo.read()
    assert shown == []

    with log.open("a") as file:
        file.write("line\n")
    echo.read()
    assert shown == [("sink", "12:00:00 ERROR: half a line")]


def test_a_flood_of_lines_is_shortened_and_counted(tmp_path) -> None:
    shown = _Shown()
    log = tmp_path / "sink.log"
    log.touch()
    echo = LogEcho(shown)
    echo.follow("sink", log)
    log.write_text("".join(f"12:00:00 ERROR: number {number}\n" for number in range(100)))

    echo.read()

    assert len(shown) == 21
    assert "80 more lines" in shown[-1][1]
