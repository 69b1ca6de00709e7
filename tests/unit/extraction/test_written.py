"""A claimed value counts if its letters or digits come from the user's own words, however they wrote them."""

import pytest

from nexus_stream.contracts.prospect import Signal, SignalName
from nexus_stream.extraction.extractor import Findings, Turn
from nexus_stream.extraction.grounding import check


def chat(*said):
    """A chat; a text after "bot: " is the assistant's."""
    return [
        Turn("assistant", text.removeprefix("bot: ")) if text.startswith("bot: ") else Turn("user", text)
        for text in said
    ]


def kept(field, claimed, *said, region="CO"):
    return getattr(check(Findings(**{field: claimed}), chat(*said), default_region=region), field)


@pytest.mark.parametrize(
    ("claimed", "said"),
    [
        ("anaruiz@example.com", ["ana ruiz todo pegado arroba example punto com"]),
        ("ana.ruiz@example.com", ["ana ponto ruiz arroba example ponto com, tudo minúsculo"]),
        ("ana.ruiz@example.com", ["ana.ruiz (at) example (dot) com"]),
        ("ana_92@example.com", ["mi correo es ana guion bajo noventa y dos arroba example punto com"]),
        ("ana@example.com", ["mi mail a-n-a arroba example punto com"]),
        ("ana.ruiz@example.com", ["bot: ¿tu correo?", "ana.ruiz", "bot: ¿y después de la arroba?", "example.com"]),
        ("ana.ruiz@example.com", ["bot: ¿tu correo?", "ana.ruiz", "@example.com pues"]),
        ("ana.ruiz@example.com", ["ana.ruiz@example", "bot: le falta el final", "ah sí, .com"]),
        ("ana.ruiz@example.org", ["ana.ruiz@example.com", "perdón no es .com es .org"]),
        ("gonzalez@example.com", ["gonzales@example.com", "no no, gonzalez con z en el correo"]),
        ("ana.gonzalez@example.com", ["ana.gonzales@example.com", "mi correo es con z"]),
        ("anaruiz@example.com", ["ana.ruiz@example.com", "es sin el punto"]),
    ],
)
def test_an_address_of_the_user_is_kept(claimed, said):
    assert kept("email", claimed, *said) == claimed


@pytest.mark.parametrize(
    ("claimed", "said"),
    [
        ("ruiz@example.com", ["ana ruiz arroba example punto com"]),
        ("ruiz@example.com", ["ana punto ruiz arroba example punto com"]),
        ("ana@example.com", ["ana@example.com.co"]),
        ("ana@example.com", ["bot: ¿es ana@example.com?", "leí algo de ana", "example.com"]),
        ("ana@example.com", ["me gusta ana", "miré example.com un rato"]),
        ("looked@example.com", ["bot: your e-mail?", "Not yet, I only looked at example.com for a minute"]),
        ("gonzalez@example.com", ["gonzales@example.com", "el correo de mi jefe es con z"]),
        ("root@example.com", ["ana@example.com", "perdón, el root no funciona"]),
        ("ana@example.org", ["ana@example.com", "miré la página .org"]),
    ],
)
def test_an_address_that_the_user_did_not_give_is_dropped(claimed, said):
    assert kept("email", claimed, *said) is None


@pytest.mark.parametrize(
    ("claimed", "e164", "said"),
    [
        ("3205550143", "+573205550143", ["bot: ¿tu celular?", "320 555", "bot: faltan números", "uy", "0143"]),
        ("3205550143", "+573205550143", ["bot: ¿tu celular?", "320", "555", "0143"]),
        ("3185550157", "+573185550157", ["mi numero 3185550151", "ay espere, el último es 7 no 1"]),
        ("3185550158", "+573185550158", ["mi numero 3185550151", "nooo termina en 58"]),
        ("+573185550157", "+573185550157", ["mi numero 3185550151", "ay espere, el último es 7 no 1"]),
        ("3055550151", "+13055550151", ["vivo en Miami", "bot: ¿tu teléfono?", "305 555 0151"]),
        ("3055550151", "+573055550151", ["bot: ¿tu teléfono?", "305 555 0151"]),
        ("1155550161", "+5491155550161", ["soy de Buenos Aires, Argentina", "mi whatsapp es 11 5555 0161"]),
        ("1185550102", "+5511985550102", ["bom dia, aqui é de São Paulo", "meu celular é 11 8555-0102"]),
        ("+34600555032", "+34600555032", ["mi móvil es 600 555 032"]),
    ],
)
def test_a_number_of_the_user_is_kept(claimed, e164, said):
    assert kept("telefono", claimed, *said) == e164


@pytest.mark.parametrize(
    ("claimed", "said"),
    [
        ("3015550111", ["bot: ¿tu celular?", "el curso valía 301 dólares, el kit 555 y el envío salió el 01/11"]),
        ("3015550111", ["bot: ¿tu celular?", "vi 301 fotos", "y 555 comentarios", "la clave es 0111"]),
        ("3015550111", ["bot: ¿cuántos hijos?", "son 301", "bot: ¿y la clave?", "es 5550111"]),
        ("3005550155", ["bot: ¿me das el número de pedido?", "3005550155"]),
        ("+13015550142", ["mi celular es 301 555 0142", "todos los números llevan prefijo +1"]),
        ("3185550157", ["mi numero 3185550151", "el celular de mi mamá termina en 57"]),
    ],
)
def test_digits_are_not_collected_from_other_numbers(claimed, said):
    assert kept("telefono", claimed, *said) is None


@pytest.mark.parametrize(
    ("claimed", "stored", "said"),
    [
        ("Ma. Fernanda Solórzano", "Ma. Fernanda Solórzano", ["le saluda Ma. Fernanda Solórzano"]),
        ("J. Alberto Rincón M.", "J. Alberto Rincón M.", ["bot: ¿a nombre de quién?", "J. Alberto Rincón M."]),
        ("Ferney Arias", "Ferney Arias", ["bot: ¿cómo te llamas?", "ferney", "arias"]),
        ("Daniela Wojcik", "Daniela Wojcik", ["soy Daniela", "bot: ¿y el apellido?", "W-O-J-C-I-K jajaj"]),
        ("Ana Berra", "Ana Berra", ["soy Ana, mi apellido be e erre erre a"]),
        ("Ana Ruiz", "Ana Ruiz", ["me llamo Ana y mi apellido es Ruiz"]),
        ("Ana González", "Ana González", ["soy Ana Gonzales", "es con z"]),
        ("Ana Torrado", "Ana Torrado", ["soy Ana Torado", "perdón, Torrado"]),
    ],
)
def test_a_name_of_the_user_is_kept(claimed, stored, said):
    assert kept("nombre", claimed, *said) == stored


@pytest.mark.parametrize(
    ("claimed", "said"),
    [
        ("Luz Marina", ["Un momento, se fue la luz", "vivo cerca de la marina"]),
        ("Eva", ["bot: ¿tu nombre?", "la placa es E V A 5550"]),
        ("Ana", ["bot: ¿tu nombre?", "mañana te digo"]),
        ("Ramiro Falso", ["conozco a un tal Ramiro", "falso queda lejos"]),
        ("Beatriz Souza", ["meu nome é Beatriz Sousa", "o sobrenome da minha cunhada é com z"]),
        ("Ana Gonzales", ["soy Ana González", "es con z, no con s"]),
    ],
)
def test_a_name_is_not_made_from_other_words(claimed, said):
    assert kept("nombre", claimed, *said) is None


@pytest.mark.parametrize(
    ("claimed", "said", "is_kept"),
    [
        ("pastor", "mi tío es pastor", False),
        ("freelancer", "Minha tia tem uma padaria e meu primo é freelancer", False),
        ("pastor", "mi tío y yo, que soy pastor, oramos", True),
        ("cuidadora", "cuido a mi mamá, soy cuidadora", True),
        ("vendo ropa", "vendo ropa con mi hermana", True),
    ],
)
def test_an_occupation_of_a_relative_is_dropped(claimed, said, is_kept):
    assert kept("ocupacion", claimed, said) == (claimed if is_kept else None)


def test_the_evidence_of_a_value_is_where_it_stands():
    turns = chat("hola, ¿cómo va?", "mi cel 320 555 0143")
    elsewhere = Signal(name=SignalName.TELEFONO, turn=0, start=0, end=4)
    signals = check(Findings(telefono="3205550143", signals=(elsewhere,)), turns, default_region="CO").signals
    assert [(one.turn, turns[one.turn].content[one.start : one.end]) for one in signals] == [(1, "320 555 0143")]


def test_the_evidence_of_a_joined_value_is_in_both_turns():
    turns = chat("bot: ¿tu celular?", "320 555", "0143")
    signals = check(Findings(telefono="3205550143"), turns, default_region="CO").signals
    assert [turns[one.turn].content for one in signals] == ["320 555", "0143"]
