"""The conversations of ``nexus demo``, with invented people, example addresses and unassigned phone numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

__all__ = ["CONVERSATIONS", "DemoConversation", "DemoTurn"]


class DemoTurn(NamedTuple):
    """One turn of a conversation."""

    role: Literal["user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class DemoConversation:
    """One visitor's chat, oldest turn first; user and assistant alternate."""

    visitor: str
    turns: tuple[DemoTurn, ...]


def _chat(visitor: str, *contents: str) -> DemoConversation:
    roles: tuple[Literal["user", "assistant"], ...] = ("user", "assistant")
    return DemoConversation(
        visitor, tuple(DemoTurn(roles[index % 2], content) for index, content in enumerate(contents))
    )


CONVERSATIONS = (
    # A visitor who is interested from the start and gives all data.
    _chat(
        "lucia",
        "Hola, me llamo Lucía Ramírez y tengo una panadería en Manizales",
        "¡Mucho gusto, Lucía! ¿Qué te gustaría saber?",
        "Quiero saber cómo empezar. ¿Cuánto tiempo hay que dedicarle?",
        "Lo que tú decidas; muchos empiezan con cinco horas por semana.",
        "Suena bien. Mi correo es lucia.ramirez@example.com",
        "Perfecto, ahí te escribo. ¿Prefieres que te llamemos?",
        "Sí, mi número es +1 202 555 0143. Quiero hacer la inversión este mes",
        "¡Listo, Lucía! Te llamamos mañana.",
        "Gracias, quedo atenta",
    ),
    # A visitor with doubts about price and trust, who gives a name late and corrects nothing.
    _chat(
        "andres",
        "Buenas, ¿esto es una pirámide?",
        "No. Puedo explicarte cómo funciona. ¿Con quién hablo?",
        "Soy Andrés Mejía, trabajo como contador",
        "Gracias, Andrés. ¿Qué te preocupa?",
        "Me parece muy caro y no sé si puedo confiar",
        "Es razonable. Te puedo mandar la información completa.",
        "Bueno, escríbeme a andres.mejia@example.com",
        "Enviado. Cualquier duda, aquí estoy.",
    ),
    # A visitor who is not interested and gives no contact data.
    _chat(
        "valentina",
        "Hola, solo estoy mirando",
        "¡Bienvenida! ¿Cómo te llamas?",
        "Me llamo Valentina",
        "Hola, Valentina. ¿Buscas algo en especial?",
        "No tengo tiempo ahora, estudio y trabajo",
        "Entiendo. ¿Te gustaría recibir información más adelante?",
        "No me interesa, gracias",
        "Que tengas buen día, Valentina.",
    ),
)
