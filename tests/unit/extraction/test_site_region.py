"""The country of a number without its code: of the tenant, else of the page, else the default."""

import pytest

from nexus_stream.contracts.conversation import Conversation
from nexus_stream.errors import ConfigurationError
from nexus_stream.extraction.extractor import Turn
from nexus_stream.extraction.rules.extractor import OfflineRules
from nexus_stream.extraction.site_region import region_for
from nexus_stream.settings import load_settings


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


def test_a_wrong_country_is_refused_at_the_start():
    with pytest.raises(ConfigurationError, match="NEXUS_TENANT_REGIONS"):
        region_of(regions="acme=Mexico")


async def test_the_rules_read_a_number_for_that_country():
    turns = [Turn("user", "mi whatsapp es 55 5555 0117")]
    assert (await OfflineRules().extract(turns)).telefono is None
    assert (await OfflineRules().extract(turns, "MX")).telefono == "+525555550117"
    # What the chat supports goes first.
    lives = [Turn("user", "vivo en Bogotá, mi whatsapp es 310 555 0117")]
    assert (await OfflineRules().extract(lives, "MX")).telefono == "+573105550117"
