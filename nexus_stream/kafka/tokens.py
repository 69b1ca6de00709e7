"""Tokens for SASL/OAUTHBEARER: from a file that another program renews, or signed with AWS credentials for MSK.

aiokafka gets a token from the provider for each new connection. No log line and no error message holds a token.
"""

from __future__ import annotations

import asyncio
import functools
import time
from pathlib import Path

from aiokafka.abc import AbstractTokenProvider
from aiokafka.errors import KafkaError

from nexus_stream.errors import ConfigurationError
from nexus_stream.settings import Settings

__all__ = ["FileTokenProvider", "MskTokenProvider", "TokenUnavailableError", "token_provider"]

# A signed MSK token is valid for 15 minutes. The broker checks it once, at the start of a connection.
_MSK_TOKEN_SPARE_SECONDS = 120.0


class TokenUnavailableError(ConfigurationError, KafkaError):  # type: ignore[misc]
    """No token to log in with. Also a KafkaError: any other error would end aiokafka's background tasks."""


class FileTokenProvider(AbstractTokenProvider):  # type: ignore[misc]
    """Reads the token from the file for each connection, so that a rotated file needs no restart.

    Kubernetes provides service account tokens in such a file, and an OIDC agent writes one.

    Args:
        path: A file that holds only the token.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    async def token(self) -> str:
        """Read the current token.

        Raises:
            TokenUnavailableError: the file cannot be read, or is empty.
        """
        try:
            text = (await asyncio.to_thread(self._path.read_text, encoding="ascii")).strip()
        except (OSError, ValueError) as error:
            raise TokenUnavailableError(
                f"NEXUS_KAFKA_OAUTH_TOKEN_FILE: {self._path} holds no readable token ({type(error).__name__})."
            ) from error
        if not text:
            raise TokenUnavailableError(f"NEXUS_KAFKA_OAUTH_TOKEN_FILE: {self._path} is empty.")
        return text


class MskTokenProvider(AbstractTokenProvider):  # type: ignore[misc]
    """Signs ``kafka-cluster:Connect`` with the AWS credentials of the process: variables, profile, or role.

    Args:
        region: The cluster's region, for example ``us-east-1``.

    Raises:
        ConfigurationError: the extra is not installed.
    """

    def __init__(self, region: str) -> None:
        try:
            from aws_msk_iam_sasl_signer import MSKAuthTokenProvider
        except ImportError as error:
            raise ConfigurationError(
                "NEXUS_KAFKA_PROVIDER: msk-iam and msk-serverless need a package: pip install 'nexus-stream[msk-iam]'."
            ) from error
        self._sign = MSKAuthTokenProvider.generate_auth_token
        self._region = region
        self._token = ""
        self._good_until = 0.0

    async def token(self) -> str:
        """A token that is valid for at least two more minutes.

        Raises:
            TokenUnavailableError: no AWS credentials were found, or signing failed.
        """
        if time.time() > self._good_until:
            try:
                # In a thread: the search for credentials may call the machine's metadata service.
                self._token, expires_at_ms = await asyncio.to_thread(self._sign, self._region)
            except Exception as error:
                raise TokenUnavailableError(
                    "NEXUS_KAFKA_PROVIDER: no MSK token could be signed: the process finds no usable AWS credentials "
                    f"({type(error).__name__}). Give it a role, AWS_PROFILE, or AWS_ACCESS_KEY_ID and its secret."
                ) from error
            self._good_until = expires_at_ms / 1000 - _MSK_TOKEN_SPARE_SECONDS
        return self._token


@functools.cache
def _msk_provider(region: str) -> MskTokenProvider:
    # One for all clients of the process: the search for credentials takes a tenth of a second or more.
    return MskTokenProvider(region)


def token_provider(settings: Settings) -> AbstractTokenProvider:
    """The token provider that is set in the settings.

    Raises:
        ConfigurationError: none is set, or its package is missing.
    """
    if settings.kafka_oauth_token_file is not None:
        return FileTokenProvider(settings.kafka_oauth_token_file)
    if settings.kafka_aws_region is not None:
        return _msk_provider(settings.kafka_aws_region)
    raise ConfigurationError(
        "NEXUS_KAFKA_SASL_MECHANISM=OAUTHBEARER: set NEXUS_KAFKA_OAUTH_TOKEN_FILE, or NEXUS_KAFKA_AWS_REGION for MSK."
    )
