"""The user's occupation, in the user's words, and the archetype that follows from it."""

import pytest

from nexus_stream.extraction.extractor import Turn
from nexus_stream.extraction.rules.extractor import find


def facts(*contents):
    turns = [Turn("assistant", c[1:]) if c.startswith(">") else Turn("user", c) for c in contents]
    found = find(turns, default_region="CO")
    return found.ocupacion, str(found.arquetipo) if found.arquetipo else None


@pytest.mark.parametrize(
    ("text", "occupation", "archetype"),
    [
        ("Me llamo Carlos y trabajo en una empresa de software", "empresa de software", "profesional_vision"),
        ("soy contadora pública", "contadora pública", "profesional_vision"),
        ("Tengo una panadería de barrio con mi esposo", "panadería de barrio", "emprendedor_dueno_negocio"),
        ("manejo una boutique de ropa que es mía", "boutique de ropa", "emprendedor_dueno_negocio"),
        ("soy dueño de una ferretería", "dueño de una ferretería", "emprendedor_dueno_negocio"),
        ("lavo carros por mi cuenta", "lavo carros", "independiente_freelancer"),
        ("laburo de diseñador gráfico freelance", "diseñador gráfico freelance", "independiente_freelancer"),
        ("soy ama de casa y mamá de tres", "ama de casa", "lider_hogar"),
        ("estudio enfermería", "estudiante de enfermería", "joven_ambicion"),
        ("soy pastor de una iglesia", "pastor de una iglesia", "lider_comunidad"),
        ("soy líder comunal", "líder comunal", "lider_comunidad"),
        ("Felipe Villarreal, ingeniero civil. Trabajo en una constructora", "ingeniero civil", "profesional_vision"),
    ],
)
def test_occupation_and_archetype(text, occupation, archetype):
    assert facts(text) == (occupation, archetype)


@pytest.mark.parametrize(
    "text",
    [
        "Mi hermana trabaja en un banco y es abogada",
        "mi esposa es ama de casa",
        "busco trabajo en Medellín",
        "quiero tener mi propio negocio",
        "antes era vendedor",
        "no soy abogado",
        "vendo mi carro",
        "¿qué hago?",
        "necesito un contador",
        "Me llamo Edilma Carabalí",
    ],
)
def test_phrases_that_are_not_the_users_occupation(text):
    assert facts(text) == (None, None)


def test_an_answer_about_the_occupation_that_no_rule_knows():
    assert facts("> ¿A qué te dedicas?", "apicultura en la montaña")[0] == "apicultura"
    assert facts("> ¿A qué te dedicas?", "prefiero no decir")[0] is None
