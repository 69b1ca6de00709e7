"""Bodies as no well-behaved client sends them, for whoever reads them: the gateway, and the enricher behind a topic."""

from __future__ import annotations

import json

from hypothesis import strategies as st

__all__ = ["mutated_bodies"]

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec="utf-8"), max_size=20),
    lambda children: st.lists(children, max_size=5) | st.dictionaries(st.text(max_size=8), children, max_size=5),
    max_leaves=20,
)
# Of which half an emoji may be left.
_JAVASCRIPT_TEXT = st.text(st.characters(categories=["Cs", "L", "So"]), max_size=10)
_TURN = st.fixed_dictionaries(
    {}, optional={"role": st.sampled_from(["user", "assistant"]) | _JSON, "content": _JSON | _JAVASCRIPT_TEXT}
)
_BODY = st.fixed_dictionaries(
    {},
    optional={
        "messages": st.lists(_TURN | _JSON, max_size=4) | _JSON,
        "sessionId": st.text(max_size=10) | _JSON,
        "fingerprint": st.text(max_size=10) | _JSON,
        "metadata": st.dictionaries(
            st.sampled_from(["url", "userAgent", "consent", "tenant_id", "enqueuedAt"]) | st.text(max_size=9), _JSON
        )
        | _JSON,
        "extra": _JSON,
    },
)

_ROLES = st.sampled_from(["user", "assistant"])
_READABLE = st.fixed_dictionaries(
    {
        "messages": st.lists(
            st.fixed_dictionaries({"role": _ROLES, "content": _JAVASCRIPT_TEXT}), min_size=1, max_size=3
        ),
        "sessionId": st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=10),
    },
    optional={"fingerprint": st.text("abc0123", max_size=8), "metadata": st.fixed_dictionaries({}) | st.none()},
)


@st.composite
def mutated_bodies(draw: st.DrawFn) -> bytes:
    """A body as json.dumps writes it (NaN, lone surrogates and huge integers included), with bytes changed or lost."""
    body = json.dumps(draw(_BODY | _READABLE), ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")
    for _ in range(draw(st.integers(0, 3))):
        position = draw(st.integers(0, len(body)))
        body = body[:position] + draw(st.binary(max_size=3)) + body[position + draw(st.integers(0, 3)) :]
    return body
