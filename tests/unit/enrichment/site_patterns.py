"""How websites post one chat: when, and which messages. For test_calls_per_chat.py and benchmarks/calls_per_chat.py."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Turn = dict[str, str]
# Seconds since the chat began, and the messages of the post.
Post = tuple[float, list[Turn]]

ANSWER_SECONDS = 4.0
TOKENS = 30
_TOKEN = "Tenemos planes "


def _moments(exchanges: int, think_seconds: float, *, each_token: bool) -> Iterator[tuple[float, list[Turn]]]:
    """The history as the page knows it, at each moment at which a site may post."""
    now, history = 0.0, list[Turn]()
    for exchange in range(exchanges):
        text = "Hola, me llamo Carlos Ruiz" if exchange == 0 else f"Y quiero saber algo más: pregunta {exchange}"
        history = [*history, {"role": "user", "content": text}]
        yield now, history
        for token in range(1, TOKENS + 1):
            answer = {"role": "assistant", "content": f"{exchange}: " + _TOKEN * token}
            if each_token or token == TOKENS:
                yield now + token * ANSWER_SECONDS / TOKENS, [*history, answer]
        history = [*history, answer]
        now += ANSWER_SECONDS + think_seconds


def each_token(exchanges: int, think_seconds: float) -> list[Post]:
    """A post at each render while the answer streams."""
    return list(_moments(exchanges, think_seconds, each_token=True))


def submit_and_finish(exchanges: int, think_seconds: float) -> list[Post]:
    """A post when the user sends, and one when the answer is complete."""
    return list(_moments(exchanges, think_seconds, each_token=False))


def window_of_10(exchanges: int, think_seconds: float) -> list[Post]:
    """The newest ten turns only."""
    return [(at, history[-10:]) for at, history in submit_and_finish(exchanges, think_seconds)]


def changing_greeting(exchanges: int, think_seconds: float) -> list[Post]:
    """A greeting before the chat that says the time."""
    return [
        (at, [{"role": "assistant", "content": f"¡Hola! Son las 10:00:{at:04.1f}"}, *history])
        for at, history in submit_and_finish(exchanges, think_seconds)
    ]


def white_space(exchanges: int, think_seconds: float) -> list[Post]:
    """Each post has other white space, as different renderers leave it."""
    return [
        (at, [{**turn, "content": turn["content"].replace(" ", " " * (1 + number % 3))} for turn in history])
        for number, (at, history) in enumerate(submit_and_finish(exchanges, think_seconds))
    ]


PATTERNS: dict[str, Any] = {
    "each token": each_token,
    "submit and finish": submit_and_finish,
    "window of 10 turns": window_of_10,
    "changing greeting": changing_greeting,
    "white space": white_space,
}
