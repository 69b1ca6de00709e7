"""The Procfile reader, and the project's own Procfile."""

import pytest

from nexus_stream.embedded.procfile import parse_procfile, read_procfile
from nexus_stream.errors import ConfigurationError


def test_reads_names_and_commands_in_order() -> None:
    types = parse_procfile("# two processes\n\nweb: serve --port $PORT\nworker:   faust -A app worker\n")

    assert list(types) == ["web", "worker"]
    assert types["worker"].argv({}) == ["faust", "-A", "app", "worker"]


def test_fills_variables_in_without_splitting_their_value() -> None:
    types = parse_procfile('web: serve "--name=${NAME}" $PORT')

    assert types["web"].argv({"NAME": "two words", "PORT": "80"}) == ["serve", "--name=two words", "80"]


def test_names_the_variable_that_is_not_set() -> None:
    types = parse_procfile("web: serve $PORT")

    with pytest.raises(ConfigurationError, match="web needs PORT"):
        types["web"].argv({})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("web serve", "line 1: not"),
        ("web:", "line 1: not"),
        ("web: a\n\nweb: b", "line 3: web occurs twice"),
        ("web: migrate && serve", "shell operator"),
        ("web: serve > log", "shell operator"),
        ("web: serve `id`", "shell operator"),
    ],
)
def test_refuses_lines_that_it_cannot_run_as_written(text: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        parse_procfile(text)


def test_a_missing_procfile_is_an_error(tmp_path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_procfile(tmp_path / "Procfile")


def test_the_projects_procfile_has_the_four_process_types() -> None:
    types = read_procfile()

    assert {name: kind.command for name, kind in types.items()} == {
        "gateway": "nexus gateway",
        "enricher": "faust -A nexus_stream.enricher worker",
        "sink": "faust -A nexus_stream.sink worker",
        "console": "nexus console",
    }
