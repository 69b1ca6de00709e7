"""The words of a name and the words around a name, by kind: which belong to the name, and which do not.

A turn of the assistant starts with ``>``. None: the chat has no name of the user.
"""

import pytest

from tests.unit.extraction.rules.chats import name_in

CAPITALS_AND_PARTICLES = [
    (("BOM DIA SOU MARIA DAS DORES DE OLIVEIRA",), "Maria das Dores de Oliveira"),
    (("> Qual o seu nome?", "SEBASTIÃO DOS REIS PINHEIRO"), "Sebastião dos Reis Pinheiro"),
    (("> Qual o seu nome?", "ANTÔNIO DA MATTA FILHO, (11) 95555-0112"), "Antônio da Matta Filho"),
    (("MEU NOME É IZABEL DAS NEVES GOULART E QUERO SABER O PREÇO",), "Izabel das Neves Goulart"),
    (("> ¿Cómo te llamas?", "ROSA DEL PILAR DE LA CUADRA"), "Rosa del Pilar de la Cuadra"),
    (("> ¿Cómo te llamas?", "GUSTAVO VON BÜLOW"), "Gustavo von Bülow"),
    (("> ¿Cómo te llamas?", "me llamo Karin von Bülow"), "Karin von Bülow"),
    (("> ¿Cómo te llamas?", "karin von bulow"), "Karin von Bulow"),
    (("> ¿Cómo te llamas?", "Paolo Della Rocca"), "Paolo della Rocca"),
    (("> ¿Cómo te llamas?", "NO SE DA EL PRECIO"), None),
    (("> ¿Cómo te llamas?", "QUIERO SABER EL PRECIO DE LA CUOTA"), None),
    (("SOU DO RECIFE E QUERO SABER",), None),
    (("SOU MARIA DO RECIFE",), "Maria"),
]

SECOND_GIVEN_NAMES = [
    (("> Seu nome e contato?", "Rosângela de Fátima Vieira. 81 95555 0180"), "Rosângela de Fátima Vieira"),
    (("> ¿Cómo te llamas?", "Luz de Lourdes Pabón"), "Luz de Lourdes Pabón"),
    (("> ¿Cómo te llamas?", "Ana de Paula Ferraz"), "Ana de Paula Ferraz"),
    (("> ¿Cómo te llamas?", "maria de fatima"), "Maria de Fatima"),
    (("> ¿Cómo te llamas?", "Ana de parte de Carlos Ruiz"), "Ana"),
]

PLACES_AFTER_NAMES = [
    (("buenas soy Jairo Tique del Cauca",), "Jairo Tique"),
    (("buenas soy Jairo Tique del Cesar",), "Jairo Tique"),
    (("soy Marta Pechené de Boyacá",), "Marta Pechené"),
    (("soy Itzel Luis de Oaxaca",), "Itzel Luis"),
    (("soy Nayeli de Michoacán",), "Nayeli"),
    (("soy Mamani de Cochabamba",), "Mamani"),
    (("sou a Jucilene do Ceará",), "Jucilene"),
    (("sou o Edvaldo da Paraíba",), "Edvaldo"),
    (("soy Yajaira de la Guajira",), "Yajaira"),
    (("soy Wilmer Puma del Beni",), "Wilmer Puma"),
    (("soy Carmen del Chaco y quiero info",), "Carmen"),
    (("Soy Rubén Tito del Valle de Aburrá",), "Rubén Tito"),
    (("soy Ramón del Castillo",), "Ramón del Castillo"),
    (("soy Ana María de la Calzada",), "Ana María de la Calzada"),
    (("me llamo Norbey Cuartas del Líbano",), "Norbey Cuartas"),
    (("soy Diana Ruiz de Palmares",), "Diana Ruiz"),
    (("Soy del Quindío",), None),
    (("Soy Boyacá",), None),
]

CATALAN = [
    (("> ¿Cómo te llamas?", "Marc Solé i Puig"), "Marc Solé i Puig"),
    (("> ¿Cómo te llamas?", "soy Núria Ferrer i Guàrdia, gracias"), "Núria Ferrer i Guàrdia"),
    (("> ¿Cómo te llamas?", "jordi vila i roca"), "Jordi Vila i Roca"),
    (("> ¿Cómo te llamas?", "pau sole i puig"), "Pau Sole i Puig"),
    (("> ¿Cómo te llamas?", "Josep Maria Trias i Peitx"), "Josep Maria Trias i Peitx"),
    (("im anna i want info",), "Anna"),
    (("My name is John Smith i need help",), "John Smith"),
    (("i'm Maria Lopez i Live in Miami",), "Maria Lopez"),
    (("> ¿Cómo te llamas?", "Juan I. Gómez"), "Juan I. Gómez"),
]

FOREIGN_SURNAMES = [
    (("> ¿Cómo te llamas?", "heidi schmitz"), "Heidi Schmitz"),
    (("> ¿Cómo te llamas?", "Agnieszka Wiśniewska, de Curitiba"), "Agnieszka Wiśniewska"),
    (("> ¿Cómo te llamas?", "giuliana pellegrini 3005550101"), "Giuliana Pellegrini"),
    (("soy andres kowalczyk y quiero info",), "Andres Kowalczyk"),
]

INITIALS = [
    (("> ¿Desea turno? Nombre y teléfono.", "J. A. Montes, tel 300.555.0147"), "J. A. Montes"),
    (("> Nombre y celular", "J.A. Montes tel 3005550147"), "J.A. Montes"),
    (("> ¿Cómo se llama?", "L. F. Rendón, cel 3005550147"), "L. F. Rendón"),
    (("> Nombre.", "M. Quiceno"), "M. Quiceno"),
]

CONFIRMED = [
    (("> ¿Eres el titular?", "sí, Josué Barrientos Lara, y quiero cambiar la tarjeta"), "Josué Barrientos Lara"),
    (("> ¿Eres la titular de la línea?", "Si, Graciela Montes"), "Graciela Montes"),
    (("> Você é o titular?", "sim, Edvaldo Pinheiro"), "Edvaldo Pinheiro"),
    (("> Are you the account holder?", "yes, Brenda Holt"), "Brenda Holt"),
    (("> ¿Es usted la titular?", "sí soy yo, Marta Pabón"), "Marta Pabón"),
    (("> ¿Eres el titular?", "no, es Josué Barrientos Lara"), None),
    (("> ¿Eres el titular?", "no, mi papá Josué Barrientos"), None),
    (("> ¿Eres el titular?", "sí, pero Josué Barrientos es mi papá y paga él"), None),
    (("> ¿Eres el titular?", "sí, con Josué Barrientos, mi esposo"), None),
    (("> ¿Eres el titular?", "sí"), None),
    (("> ¿Eres el titular?", "sí, claro que sí"), None),
    (("> ¿Eres el titular?", "Sí, Plan Premium"), None),
]

SPELLED_SURNAMES = [
    (("mi nombre es Danna, apellido w-i-t-k-o-w-s-k-i, es que siempre lo escriben mal",), "Danna Witkowski"),
    (("> ¿Cómo te llamas?", "Yamil", "> ¿Apellido?", "K U R I"), "Yamil Kuri"),
    (("> ¿Cómo te llamas?", "Yamil", "> ¿Apellido?", "k-u-r-i"), "Yamil Kuri"),
    (("> ¿Cómo te llamas?", "Yamil", "> ¿Tu apellido?", "ka u ere i"), "Yamil Kuri"),
    (("> ¿Cómo te llamas?", "Yamil", "> ¿Apellido?", "K.U.R.I."), "Yamil Kuri"),
    (("> ¿Cómo te llamas?", "Yamil", "> ¿Apellido?", "el S M L V no"), "Yamil"),
]

CHAT_WORDS = [
    (("names Brittany btw",), "Brittany"),
    (("names Brittany BTW",), "Brittany"),
    (("soy Ximena lol",), "Ximena"),
    (("me llamo yurani xfa ayudame",), "Yurani"),
    (("soy renzo pe",), "Renzo"),
    (("soy constanza po",), "Constanza"),
    (("me llamo ana jajaja",), "Ana"),
    (("my name is Tiffany thx",), "Tiffany"),
    (("soy Karla tqm",), "Karla"),
    (("soy la Jessi jeje",), "Jessi"),
    (("me llamo Luz jajajajaja",), "Luz"),
    (("meu nome é Kelly kkkkk",), "Kelly"),
    (("sou Kelly vlw",), "Kelly"),
    (("> ¿Cómo te llamas?", "Btw cuánto cuesta"), None),
    (("> ¿Cómo te llamas?", "jajajaja"), None),
    (("> ¿Cómo te llamas?", "ntp"), None),
    (("> ¿Cómo te llamas?", "Plis Info"), None),
    (("> ¿Cómo te llamas?", "ps Iván"), "Iván"),
]

HERE = [
    (("Hola Florencia acá",), "Florencia"),
    (("hola, Florencia acá",), "Florencia"),
    (("Buenas tardes Marcela Tique aquí",), "Marcela Tique"),
    (("Hola Florencia, acá te paso mi mail",), None),
    (("Hola Florencia acá te paso mi mail",), None),
    (("> Hola, soy Florencia", "Hola Florencia acá"), None),
    (("Hola Florencia aquí Juan Ruiz",), "Juan Ruiz"),
    (("Hola Florencia acá Juan",), "Juan"),
    (("buenas, alguien acá?",), None),
    (("Hola chicas acá",), None),
]

RELATIVES = [
    (("yo soy su hijo Iván pero márquele a ella",), "Iván"),
    (("soy la hija, Carmen",), "Carmen"),
    (("soy su esposa Marleny Tique",), "Marleny Tique"),
    (("sou a filha dela, Jussara",), "Jussara"),
    (("soy la mamá de Iván",), None),
    (("soy amiga de Carmen",), None),
    (("i'm her son Ivan",), "Ivan"),
    (("soy mamá soltera",), None),
    (("soy papá, Iván tiene 5",), None),
    (("soy el hijo mayor",), None),
    (("soy mamá Carmen Ruiz",), "Carmen Ruiz"),
    (("soy su vecina y Carmen me dijo",), None),
    (("soy amiga Laura me recomendó",), None),
]

STREETS_AND_QUARTERS = [
    (
        ("> ¿De qué barrio sos?", "san cristobal", "> Hay retiro en Av. San Juan. ¿Cómo te llamás?", "pasame el alias"),
        None,
    ),
    (("> ¿Cómo te llamas y de qué barrio eres?", "san cristobal"), None),
    (("> ¿Cómo te llamas y tu dirección?", "av. Simón Bolívar 120"), None),
    (("> ¿Nombre y barrio?", "Simón Bolívar"), "Simón Bolívar"),
    (("> ¿Nombre y barrio?", "barrio Simón Bolívar, Luz Pabón"), "Luz Pabón"),
    (("> ¿Cómo te llamas?", "santa fe"), None),
    (("> ¿Cómo te llamas?", "villa maria"), None),
    (("> ¿Cómo te llamas?", "Calle José Martí 12"), None),
    (("> ¿Nombre?", "Col. Benito Juárez"), None),
    (("> ¿Cómo te llamas?", "villa del rosario"), None),
    (("> ¿Cómo te llamas?", "Carlos", "> ¿Apellido?", "San Martín"), "Carlos San Martín"),
    (("> ¿Cómo te llamas?", "Carlos", "> ¿Apellido?", "Santa Cruz"), "Carlos Santa Cruz"),
]

ACRONYMS = [
    (("> ¿Cómo te llamas?", "MLM otra vez?"), None),
    (("soy MLM",), None),
    (("soy del SENA",), None),
    (("eso es MLM no?",), None),
    (("soy CEO de una pyme",), None),
    (("> ¿Cómo te llamas?", "Ana MLM"), "Ana"),
    (("> ¿Cómo te llamas?", "ANA RÚA"), "Ana Rúa"),
    (("> ¿Cómo te llamas?", "es MLM"), None),
    (("> ¿Cómo te llamas?", "MLM"), None),
    (("> ¿Cómo te llamas?", "es un MLM?"), None),
    (("> ¿Cómo te llamas?", "Es multinivel? MLM?"), None),
]

SURNAMES_OF_OTHERS = [
    (("soy Laura Peres", "> ok", "el apellido de mi esposo es Gómez"), "Laura Peres"),
    (("soy Laura Peres", "> ok", "el nombre de mi hermana es Lara"), "Laura Peres"),
    (("soy Laura", "> ok", "el apellido de mi esposo es Gómez"), "Laura"),
    (("soy Laura", "> ok", "o sobrenome da minha mãe é Gomes"), "Laura"),
    (("soy Laura", "> ok", "mi apellido es Gómez"), "Laura Gómez"),
    (("soy Laura", "> ¿Tu apellido?", "el de mi esposo es Gómez"), "Laura"),
    (("soy Laura", "> ¿Tu apellido?", "Gómez, como mi papá"), "Laura Gómez"),
    (("soy Laura", "> ¿Tu apellido?", "no te lo doy"), "Laura"),
    (("soy Laura", "> ¿Tu apellido?", "Gómez Pérez"), "Laura Gómez Pérez"),
]


@pytest.mark.parametrize(
    ("turns", "name"),
    [
        *CAPITALS_AND_PARTICLES,
        *SECOND_GIVEN_NAMES,
        *PLACES_AFTER_NAMES,
        *CATALAN,
        *FOREIGN_SURNAMES,
        *INITIALS,
        *CONFIRMED,
        *SPELLED_SURNAMES,
        *CHAT_WORDS,
        *HERE,
        *RELATIVES,
        *STREETS_AND_QUARTERS,
        *ACRONYMS,
        *SURNAMES_OF_OTHERS,
    ],
)
def test_only_the_words_of_the_name_are_read(turns, name):
    assert name_in(*turns) == name
