"""Tokens for OAUTHBEARER. The signer's token is checked only by its form: AWS is not called."""

from __future__ import annotations

import base64
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from aiokafka.errors import KafkaError

from nexus_stream.errors import ConfigurationError
from nexus_stream.kafka.clients import client_options
from nexus_stream.kafka.tokens import FileTokenProvider, MskTokenProvider, token_provider
from nexus_stream.settings import load_settings
from nexus_stream.worker.options import credentials


async def test_a_token_file_is_read_for_each_connection(tmp_path: Path):
    file = tmp_path / "token"
    provider = FileTokenProvider(file)
    for token in ("first.token.", "second.token."):
        file.write_text(f"{token}\n")
        assert await provider.token() == token


@pytest.mark.parametrize("content", [None, b"", b"\n", b"\xff\xfe"])
async def test_a_missing_token_names_the_file_and_does_not_end_a_client(tmp_path: Path, content: bytes | None):
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigurationError, match="NEXUS_KAFKA_OAUTH_TOKEN_FILE") as caught:
        await FileTokenProvider(file).token()
    # aiokafka's background tasks survive only this kind of error.
    assert isinstance(caught.value, KafkaError)
    assert str(file) in caught.value.args[0]


async def test_an_msk_token_is_a_signed_address_of_the_region(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "EXAMPLEKEYID")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "example-secret")
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    provider = MskTokenProvider("eu-west-1")
    token = await provider.token()

    url = urlsplit(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode())
    query = parse_qs(url.query)
    assert (url.scheme, url.netloc) == ("https", "kafka.eu-west-1.amazonaws.com")
    assert query["Action"] == ["kafka-cluster:Connect"]
    assert query["X-Amz-Algorithm"] == ["AWS4-HMAC-SHA256"]
    assert query["X-Amz-Expires"] == ["900"]
    assert query["X-Amz-Credential"][0].startswith("EXAMPLEKEYID/")
    assert query["X-Amz-Credential"][0].endswith("/eu-west-1/kafka-cluster/aws4_request")
    assert len(query["X-Amz-Signature"][0]) == 64
    assert "example-secret" not in url.geturl()

    # A connection soon after uses the same token. A connection after its expiry signs a new one.
    assert await provider.token() == token
    provider._good_until = time.time() - 1
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "OTHERKEYID")
    assert await provider.token() != token


async def test_missing_aws_credentials_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    with pytest.raises(ConfigurationError, match="no usable AWS credentials"):
        await MskTokenProvider("eu-west-1").token()


def test_aiokafka_and_faust_get_the_same_provider(tmp_path: Path):
    settings = load_settings(
        environ={},
        kafka_security_protocol="SASL_PLAINTEXT",
        kafka_sasl_mechanism="OAUTHBEARER",
        kafka_oauth_token_file=tmp_path / "token",
    )
    options = client_options(settings)
    assert options["sasl_mechanism"] == "OAUTHBEARER"
    assert isinstance(options["sasl_oauth_token_provider"], FileTokenProvider)
    assert "sasl_plain_password" not in options
    assert isinstance(credentials(settings).oauth_cb, FileTokenProvider)
    msk = settings.model_copy(update={"kafka_oauth_token_file": None, "kafka_aws_region": "eu-west-1"})
    # One for all clients of a process, so that they share a token.
    assert token_provider(msk) is token_provider(msk)
