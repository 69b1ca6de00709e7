"""The country of a number without its code: of the tenant, else of the page, else the default."""

import pytest

from nexus_stream.contracts.conversation import Conversation
from nexus_stream.contracts.session_key import TENANT_PATTERN
from nexus_stream.errors import ConfigurationError
from nexus_stream.extraction.extractor import Turn
from nexus_stream.extraction.rules.extractor import OfflineRules
from nexus_stream.extraction.site_region import region_for
from nexus_stream.settings import _TENANT, load_settings


def region_of(url=None, tenant=None, regions="acme=MX"):
    body = {
        "messages": [{"role": "user", "content": "hola"}],
        "sessionId": "s-1",
        "metadata": {"url": url, "tenant_id": tenant},
    }
    settings = load_settings(environ={"NEXUS_TENANT_REGIONS": regions})
    return region_for(Conversation.model_validate(body), settings)


@pytest.mark.parametrize(
    ("url", "region"),
    [
        ("https://tienda.example.mx/planes?x=1", "MX"),
        ("https://example.com.br", "BR"),
        ("https://example.com.co/a", "CO"),
        ("https://example.co.uk", "GB"),
        ("https://example.es:8443/", "ES"),
        ("https://example.com.br./a", "BR"),
        ("https://example.io", "CO"),
        ("https://example.tv", "CO"),
        ("https://example.com", "CO"),
        ("https://[::1", "CO"),
        ("mx", "CO"),
        (None, "CO"),
    ],
)
def test_the_address_of_the_page_names_the_country(url, region):
    assert region_of(url) == region


def test_the_tenant_goes_before_the_page():
    assert region_of("https://example.com.br", "acme") == "MX"
    assert region_of("https://example.com.br", "other") == "BR"


@pytest.mark.parametrize(
    ("regions", "problem"),
    [
        ("acme=Mexico", "ISO 3166"),
        ("acme=mx", "ISO 3166"),
        ("acme=XX", "ISO 3166"),
        ("acme=UK", "GB is the code of the United Kingdom"),
        ("acme:shop=MX", "a tenant has letters"),
    ],
)
def test_a_wrong_country_or_tenant_is_refused_at_the_start(regions: str, problem: str):
    with pytest.raises(ConfigurationError, match=f"NEXUS_TENANT_REGIONS.*{problem}"):
        region_of(regions=regions)


def test_a_wrong_default_country_is_refused_at_the_start():
    with pytest.raises(ConfigurationError, match=r"NEXUS_DEFAULT_REGION.*GB"):
        load_settings(environ={"NEXUS_DEFAULT_REGION": "UK"})
    assert load_settings(environ={"NEXUS_DEFAULT_REGION": "GB"}).default_region == "GB"


def test_settings_and_session_keys_mean_the_same_tenants():
    assert f"^{_TENANT.pattern}$" == TENANT_PATTERN


def test_no_tenant_is_written_as_an_empty_name():
    assert region_of("https://example.com.br", "", "=MX") == "MX"


async def test_the_rules_read_a_number_for_that_country():
    turns = [Turn("user", "mi whatsapp es 55 5555 0117")]
    assert (await OfflineRules().extract(turns)).telefono is None
    assert (await OfflineRules().extract(turns, "MX")).telefono == "+525555550117"
    # What the chat supports goes first.
    lives = [Turn("user", "vivo en Bogotá, mi whatsapp es 310 555 0117")]
    assert (await OfflineRules().extract(lives, "MX")).telefono == "+573105550117"
