"""`.env.example` lists every setting with its default, in the order of settings.py, and nothing else."""

from __future__ import annotations

import io
import re
from pathlib import Path

from dotenv import dotenv_values

from nexus_stream.settings import Settings, _variables, load_settings

EXAMPLE = Path(__file__).resolve().parents[3] / ".env.example"
# A setting has no space after #, an explanation has one.
SETTING = re.compile(r"^#([A-Z][A-Z0-9_]*)=", re.MULTILINE)


def listed() -> list[str]:
    return SETTING.findall(EXAMPLE.read_text(encoding="utf-8"))


def uncommented() -> dict[str, str]:
    """The variables of the file after every line is uncommented."""
    text = SETTING.sub(r"\1=", EXAMPLE.read_text(encoding="utf-8"))
    return {name: value or "" for name, value in dotenv_values(stream=io.StringIO(text)).items()}


def test_it_lists_every_setting_once_in_the_order_of_the_code() -> None:
    assert listed() == list(_variables())


def test_without_changes_it_sets_nothing() -> None:
    assert dotenv_values(EXAMPLE) == {}


def test_with_every_line_uncommented_it_sets_the_defaults() -> None:
    assert load_settings(environ=uncommented()) == Settings()


def test_only_settings_without_a_default_have_no_value() -> None:
    """An empty value counts as unset, so the test above would accept it for any default."""
    shown = uncommented()
    # Reversed: if a setting has two names, the first one shows the default.
    first_name = {field_name: name for name, field_name in reversed(_variables().items())}
    for field_name, name in first_name.items():
        has_default = Settings.model_fields[field_name].default not in (None, "", (), {})
        assert (shown[name] != "") == has_default, name


def test_every_setting_is_explained_right_above_it() -> None:
    explained = False
    previous_is_setting = False
    for number, line in enumerate(EXAMPLE.read_text(encoding="utf-8").splitlines(), 1):
        if SETTING.match(line):
            # One explanation may cover a few related settings.
            assert explained or previous_is_setting, f"line {number}: {line} has no explanation"
            previous_is_setting, explained = True, False
        else:
            explained = line.startswith("# ") and not line.startswith("# ----")
            previous_is_setting = False
        assert len(line) <= 120, f"line {number} is too long"


def test_each_line_is_a_setting_an_explanation_or_blank() -> None:
    for line in EXAMPLE.read_text(encoding="utf-8").splitlines():
        assert line == "" or line.startswith("# ") or SETTING.match(line), line
