"""Objections and doubts of the user count. Questions, denials and reports about others do not."""

import pytest

from nexus_stream.extraction.extractor import Turn
from nexus_stream.extraction.rules.intent import find_intent, find_lack_of_interest
from nexus_stream.extraction.rules.objections import find_objections
from nexus_stream.extraction.text import user_turns


def objections_in(*contents):
    turns = [Turn("assistant", c[1:]) if c.startswith(">") else Turn("user", c) for c in contents]
    return {one.kind.value for one in find_objections(user_turns(turns))}


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("uy no, está carísimo, no me alcanza", {"price"}),
        ("¿y por qué tan caro?", {"price"}),
        ("se sale de mi presupuesto", {"price"}),
        ("ando sin lana", {"price"}),
        ("I can't afford it", {"price"}),
        ("no me da tiempo entre la chamba y los niños", {"time"}),
        ("vivo ocupada", {"time"}),
        ("mi problema no es la plata, es el tiempo", {"time"}),
        ("no es que sea caro, es que no tengo tiempo", {"time"}),
        ("suena a estafa", {"trust"}),
        ("¿esto es legal?", {"trust"}),
        ("no me inspira confianza", {"trust"}),
        ("Me parece muy caro y no sé si puedo confiar", {"price", "trust"}),
        ("no sé si debería confiar", {"trust"}),
        ("no sé si se puede confiar en ustedes", {"trust"}),
        ("¿cómo sé que no me van a robar?", {"trust"}),
        ("¿esto es una pirámide?", {"mlm"}),
        ("no es una pirámide, ¿verdad?", {"mlm"}),
        ("toca meter gente?", {"mlm"}),
        ("me preocupan el tiempo, la plata y que sea pirámide", {"time", "price", "mlm"}),
    ],
)
def test_objections(text, kinds):
    assert objections_in(text) == kinds


@pytest.mark.parametrize(
    "text",
    [
        "¿cuánto cuesta y cuánto tiempo demora?",
        "¿es caro?",
        "no me parece caro",
        "no tengo problema de plata",
        "trabajo de tiempo completo",
        "tengo tiempo libre",
        "tengo confianza en ustedes",
        "sé que no es una estafa",
        "no creo que sea una pirámide",
        "al principio pensé que era una pirámide pero ya vi que no",
        "fui a las pirámides de Teotihuacán",
        "mi esposo dice que es una estafa",
        "a mi esposo le parece caro pero a mí no",
        "lo que gano no me alcanza, busco otro ingreso",
        "ahorita estoy ocupada, escríbeme luego",
        "no me interesa",
        "no estoy listo todavía",
        "trabajé en multinivel y me gustó",
        "me robaron el celular",
    ],
)
def test_false_friends(text):
    assert objections_in(text) == set()


def test_the_assistants_objections_are_not_the_users():
    assert objections_in("> Muchos dicen que es una estafa o una pirámide, o muy caro.", "ok, cuéntame") == set()


def test_a_short_answer_names_the_users_obstacle():
    assert objections_in("> ¿Qué te preocupa: el precio o el tiempo?", "más que todo el precio") == {"price"}
    assert objections_in("> ¿Qué te preocupa: el precio o el tiempo?", "nada") == set()


@pytest.mark.parametrize("text", ["quiero saber más", "¿cómo hago para EMPEZAR?", "las oportunidades de inversión"])
def test_intent(text):
    assert find_intent(user_turns([Turn("user", text)])) is not None


@pytest.mark.parametrize("text", ["no quiero que me llamen", "no estoy listo para empezar", "solo miraba"])
def test_no_intent(text):
    assert find_intent(user_turns([Turn("user", text)])) is None


def test_lack_of_interest():
    for text in ("no me interesa, gracias", "No estoy interesada"):
        assert find_lack_of_interest(user_turns([Turn("user", text)])) is not None
    assert find_lack_of_interest(user_turns([Turn("user", "me interesa, no es que no me interesa")])) is None
