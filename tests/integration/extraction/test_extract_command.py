"""``nexus extract`` as a user types it: the real command in its own process."""

import asyncio
import json
import os
import sys
from typing import Any

import pytest

BODY = {
    "messages": [
        {"role": "assistant", "content": "¿Con quién hablo?", "timestamp": "2026-01-01"},
        {"role": "user", "content": "soy Irma del Valle, mi cel es 301 555 0170 y quiero empezar"},
    ],
    "sessionId": "s-1",
}
ANSWER = {
    "nombre": "Irma del Valle",
    "email": "nobody@example.com",
    "telefono": "3015550170",
    "ocupacion": None,
    "arquetipo": None,
    "objeciones": [],
    "evidencias": [
        {"senal": "nombre", "turno": 1, "cita": "Irma del Valle"},
        {"senal": "telefono", "turno": 1, "cita": "301 555 0170"},
        {"senal": "intencion", "turno": 1, "cita": "quiero empezar"},
    ],
}


async def nexus_extract(*arguments: str, stdin: Any = BODY, **environ: str) -> tuple[int, str, str]:
    text = stdin if isinstance(stdin, bytes) else json.dumps(stdin).encode()
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("NEXUS_", "ANTHROPIC_"))}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "from nexus_stream.cli import main; main()",
        "extract",
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**clean, **environ},
        cwd="/",
    )
    out, err = await asyncio.wait_for(process.communicate(text), 60)
    return process.returncode or 0, out.decode(), err.decode()


@pytest.fixture
def over(stand_in):
    return {"ANTHROPIC_API_KEY": "sk-test-0000", "ANTHROPIC_BASE_URL": stand_in.url}


async def test_it_shows_the_record_its_evidence_and_its_cost(stand_in, over):
    usage = {"input_tokens": 60, "cache_read_input_tokens": 2000, "output_tokens": 100}
    stand_in.script(stand_in.message(json.dumps(ANSWER), usage=usage))
    code, out, err = await nexus_extract("-", **over)
    assert (code, err) == (0, "")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert "nombre Irma del Valle" in lines
    assert "telefono +573015550170" in lines
    assert "nivel_interes 7.0" in lines
    assert "email -" in lines
    assert "intencion turn 1 'quiero empezar'" in lines
    assert "dropped email" in lines
    assert any(line.startswith("extractor claude · claude-haiku-5-5 · prospect-v2-") for line in lines)
    assert "tokens 60 in, 2000 read from the cache, 100 out" in lines
    assert f"cost {(60 * 0.10 + 2000 * 0.01 + 100 * 0.50) / 1e6:.6f} USD at list price" in lines


async def test_offline_and_as_json_from_a_file(tmp_path):
    path = tmp_path / "conversation.json"
    path.write_text(json.dumps(BODY))
    code, out, _ = await nexus_extract(str(path), "--offline", "--json")
    assert code == 0
    shown = json.loads(out)
    assert (shown["extractor"], shown["model"], shown["cost_usd"]) == ("offline-rules-v1", None, 0.0)
    assert shown["prospect"]["nombre"] == "Irma del Valle"
    assert {"name": "nombre", "turn": 1, "confirmed": True, "words": "Irma del Valle"} in shown["signals"]


async def test_without_consent_nothing_is_sent(stand_in, over):
    code, out, _ = await nexus_extract("-", "--json", stdin={**BODY, "metadata": {"consent": False}}, **over)
    assert code == 0
    assert json.loads(out)["extractor"] == "none"
    assert stand_in.requests == []


@pytest.mark.parametrize(
    ("stdin", "says"),
    [(b"{", "not JSON"), ({"messages": []}, "messages"), ({**BODY, "sessionId": ""}, "sessionId")],
)
async def test_an_invalid_conversation_is_explained_without_a_traceback(stdin, says):
    code, out, err = await nexus_extract("-", "--offline", stdin=stdin)
    assert (code, out) == (1, "")
    assert says in err
    assert "Traceback" not in err


async def test_a_failure_shows_the_result_for_the_message(stand_in, over):
    stand_in.script(stand_in.message("", stop_reason="refusal"))
    code, _, err = await nexus_extract("-", **over)
    assert code == 1
    assert "a dead letter (model_refused)" in err
    stand_in.script(stand_in.error(429, "rate_limit_error", **{"retry-after": "7"}))
    code, _, err = await nexus_extract("-", **over)
    assert code == 1
    assert "Try again in 7 s" in err
    stand_in.script(stand_in.error(401, "authentication_error"))
    code, _, err = await nexus_extract("-", **over)
    assert code == 2
    assert "ANTHROPIC_API_KEY" in err
    assert "Traceback" not in err
