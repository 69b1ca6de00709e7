"""Patterns on folded text: how people say what they do for a living."""

from __future__ import annotations

import re

from nexus_stream.extraction.rules.ownership import RELATIONS

__all__ = [
    "ABOUT_ME",
    "ACTIVITY",
    "ALONE",
    "BUSINESS_ENDING",
    "COMMUNITY",
    "COMMUNITY_ROLE",
    "DEDICATED",
    "DETERMINERS",
    "HOME",
    "HOME_OBJECT",
    "IS",
    "NEEDS_MORE",
    "NOT_ME",
    "NOT_SELF",
    "NOUN_BEFORE",
    "NO_BUSINESS",
    "NO_OBJECT",
    "NO_STUDY",
    "ONLY_VEHICLES",
    "OWNED_AFTER",
    "OWNERS",
    "OWNS",
    "RETIRED",
    "SELF_EMPLOYED",
    "SOMEONES",
    "STATUS",
    "STATUS_WORD",
    "STUDENT",
    "STUDIES",
    "TEACHING",
    "WANTED",
    "WEAK_END",
    "WORD",
    "WORKS_IN",
]

STUDENT = frozenset({"estudiante", "student", "practicante", "seminarista"})
COMMUNITY = frozenset(
    {
        "pastor",
        "pastora",
        "sacerdote",
        "cura",
        "parroco",
        "diacono",
        "obispo",
        "rabino",
        "misionero",
        "misionera",
        "predicador",
        "lideresa",
        "monja",
        "alcalde",
        "catequista",
    }
)
OWNERS = frozenset(
    {
        "emprendedor",
        "emprendedora",
        "empresario",
        "empresaria",
        "comerciante",
        "tendero",
        "tendera",
        "microempresario",
        "microempresaria",
    }
)
ALONE = frozenset({"freelance", "freelancer", "autonomo", "autonoma"})
RETIRED = frozenset({"pensionado", "pensionada", "jubilado", "jubilada", "voluntario", "voluntaria"})
STATUS = (
    OWNERS
    | ALONE
    | RETIRED
    | frozenset(
        {
            "empleado",
            "empleada",
            "trabajador",
            "trabajadora",
            "lider",
            "jefe",
            "jefa",
            "encargado",
            "encargada",
            "modelo",
            "guia",
        }
    )
)
# Alone, these words are not clearly a trade: they need a complement.
NEEDS_MORE = frozenset(
    {
        "lider",
        "jefe",
        "jefa",
        "encargado",
        "encargada",
        "guia",
        "cura",
        "agente",
        "personal",
        "oficial",
        "monitor",
        "comercial",
        "modelo",
        "creativo",
        "corredor",
        "corredora",
    }
)

IS = re.compile(
    r"(?:\b(?:so[yi]|ejerzo(?: como| de)?|me desempeno como|estoy (?:de|como)|(?:de |mi )?profesion(?: es)?|"
    r"(?:mi )?ocupacion(?: es)?|"
    r"(?:mi )?oficio(?: es)?|i'?m|i am|work as|working as|trabajo (?:actualmente )?(?:de|d|como|cm|komo|cmo|"
    r"com)|laburo (?:de|como)|curro (?:de|como)|chambeo (?:de|como)|"
    r"camello (?:de|como)|laboro (?:de|como)|me dedico a ser|me dedico a la|de profesion|soy de profesion|"
    r"titulad[oa] (?:en|como)|graduad[oa] (?:de|como|en)|"
    r"(?:trabaj|labur|labor)o [^.,;!?\n]{1,40} (?:como|de)|y|e|[,:;(/]|tambien|actualmente|ahora|hoy|"
    r"vengo siendo|me gano la vida (?:de|como)|aparte)"
    r"\s+|^|[^a-z\s]\s?)(?:(?:soy|un|una|a|an|la|el|muy|todavia|actualmente|ya|tambien|orgullosamente|solo|"
    r"apenas|simplemente|solamente|pues|como|de|super|"
    r"mama y|papa y|mama,|feliz|orgullosa|orgulloso|tu|su|the|todo un|toda una|aun|ahora|hoy|por ahora) )*$"
)
# A comma or "y" before a trade counts only if the user talks about themselves before it.
WEAK_END = re.compile(
    r"(?:^|[^a-z\s]\s?|\b(?:y|e|ahora|hoy|tambien|actualmente|aparte)\s+)(?:(?:una?|el|la|muy|ya|tambien|de|"
    r"como|todavia) )*$"
)
ABOUT_ME = re.compile(
    r"\b(?=[a-z])(?:so[yi]|me llamo|mi nombre|yo|i'?m|tengo \d+|habla|escribe|trabajo|vivo|estudie|me presento|"
    r"presentarme)\b"
)
NOT_ME = re.compile(
    rf"\b(?=[a-z])(?:mi|mis|su|tu|un|una|el|la|nuestr[oa]) (?:[a-z]+ )?{RELATIONS}\b(?![^.;]*\b(?:soy|yo|me llamo|"
    rf"trabajo|mi nombre)\b)|\b(?:ella|ellos|el es|ella es|fui|era|fue|quiero ser|"
    r"ser|quisiera ser|sueno con|estudie para|hij[oa] de|espos[oa] de|busco|necesito|"
    r"conozco)\b(?![^.;]*\b(?:soy|yo|me llamo|trabajo)\b)"
)
NOT_SELF = re.compile(r"\b(?=[a-z])(?:no|ya no|nunca|tampoco|ni|ex|antes|cuando)(?: me| yo| lo| la)*\s*$")
WANTED = re.compile(
    r"\b(?=[a-z])(?:quiero|quisiera|busco|tener|montar|sueno|gustaria|poner|abrir|quieren|necesito|crear|iniciar|empezar|"
    r"para)\b[^.,;]{0,25}$"
)

OWNS = re.compile(
    r"\b(?=[a-z])(?:(?:yo )?(?:tengo|tenemos|monte|montamos|abri|abrimos|puse|pusimos|funde|fundamos|poseo|inicie|"
    r"emprendi con|compre|i (?:own|run|have))"
    r"(?: (?:aqui|aca|con mi [a-z]+|hace [a-z0-9]+ anos|desde hace [a-z0-9]+ anos|junto a mi [a-z]+|ahora|"
    r"actualmente|ya|tambien))?|"
    r"(?:so[yi]|como|i'?m(?: the)?)? ?(?:el |la |the )?(?:duen[oa]s?|propietari[oa]|fundador[a]?|cofundador[a]?|"
    r"owner|ceo|gerente y duen[oa]|soci[oa] fundador[a]?)"
    r" (?:y [a-z]+ )?(?:del?|d|of)|(?P<runs>manejo|dirijo|llevo|administro|atiendo|gerencio|regento|coordino)|"
    r"(?P<mine>(?:de|en|con|es|atiendo|vivo de)? ?mi(?: propi[oa])?))\s+"
)
DETERMINERS = re.compile(
    r"(?:(?:una?|unos|unas|el|la|los|las|mi|mis|nuestr[oa]|propi[oa]|pequen[oa]|peque|pequenit[oa]|dos|tres|"
    r"varias?|varios|como|otr[oa]|cadena de|local de|a|my|the|own|"
    r"small|peq|chiquit[oa]|gran|humilde|su|sencill[oa]) ){0,4}"
)
WORD = re.compile(r"[a-z]+")
BUSINESS_ENDING = re.compile(r"[a-z]{3,}(?:eria|erias|boutique|shop|store)$")
NO_BUSINESS = frozenset(
    {
        "loteria",
        "ingenieria",
        "bateria",
        "galeria",
        "categoria",
        "materia",
        "historia",
        "alegria",
        "tonteria",
        "averia",
        "porqueria",
        "enfermeria",
        "seria",
        "seriedad",
        "mayoria",
        "loquera",
        "teoria",
        "asesoria",
    }
)
OWNED_AFTER = re.compile(r"[^.;!?\n]{0,40}\b(?:es mi[oa]|son mi[oa]s|propi[oa]s?|de mi propiedad|mi[oa])\b")
SOMEONES = re.compile(rf"[^.,;!?\n]{{0,30}}\bde (?:mi|mis|un|una|la|el) {RELATIONS}\b")

WORKS_IN = re.compile(
    r"\b(?=[a-z])(?:trabajo|trabajando|laburo|curro|chambeo|laboro|camello|jalo|i work|working|empleada|empleado|"
    r"me desempeno)\s+"
    r"(?:(?:actualmente|ahora|hoy|tambien|todo el dia|medio tiempo|de tiempo completo|a tiempo completo|"
    r"tiempo completo|de planta|desde hace [a-z0-9]+ anos|hace [a-z0-9]+ anos|"
    r"media jornada|ahorita|por turnos|de noche|de dia|part time|full time|como [a-z]+(?: [a-z]+)?) ){0,4}(?:en|"
    r"para|at|for|in|con)\s+"
)
NOUN_BEFORE = re.compile(
    r"\b(?=[a-z])(?:mi|tu|su|un|el|de|al|del|busco|buscar|buscando|sin|mas|mucho|hay|otro|este|ese|buen|algun|tener|"
    r"conseguir|tengo|necesito|cada|dos|por|quiero|ningun|nuevo|que|conseguirme|encontrar|ofrecen)\s+$"
)
VERB = (
    r"(?:vendo|bendo|revendo|lavo|hago|fabrico|reparo|arreglo|coso|cocino|limpio|cuido|pinto|tejo|corto|peino|"
    r"maquillo|instalo|construyo|monto|reparto|conduzco|manejo|"
    r"enseno|diseno|programo|produzco|confecciono|preparo|bordo|siembro|cultivo|crio|importo|distribuyo|"
    r"comercializo|ofrezco|presto|alquilo|transporto|plancho|"
    r"toco|asesoro|imparto|traduzco|edito|grabo|doy|dicto|horneo|decoro|organizo|elaboro|realizo|recojo|reciclo|"
    r"desarrollo|entreno|gestiono|compro y vendo|i sell|i make|i clean|i drive|i teach)"
)
ACTIVITY = re.compile(rf"\b{VERB}\s+(?=[a-z])")
NO_OBJECT = re.compile(
    r"(?:parte|turnos?|preguntas?|todo|nada|eso|esto|lo|la|caso|falta|ejercicio|deporte|clic|bien|mal|mucho|"
    r"poco|que|cuando|como|si|un|una|el|mi|mis|su|a (?:mi|mis|su)|de todo|"
    r"las cosas|fila|tarde|gracias|las gracias|fe|abasto|cuenta|por|en|mas|muy|con|y|bastante|esa|ese|este|esta|"
    r"esas|esos|vueltas|tiempo|lastima|pena|risa|fuerza|click|pausa|cosas raras|"
    r"clases? a mi|otra|otro|asi|igual|hasta|desde|mandados a|de esto|de eso|servicio\b$|cumpleanos|mis cosas|"
    r"puente|los|las mismas|les|le|te|me|se|nos|todas|todos|dos|tres|paso|al|del)\b"
)
ONLY_VEHICLES = re.compile(
    r"(?:(?:un|una|mi|el|la) )?(?:taxi|bus|uber|moto|mototaxi|camion|camioneta|tractomula|mula|ambulancia|"
    r"buseta|colectivo|trailer|remis|remise|didi|cabify|volqueta|furgon|grua|micro|carro de)\b"
)
TEACHING = re.compile(
    r"(?:clases?|cursos?|talleres|asesorias?|terapias?|masajes|charlas|entrenamientos?|tutorias?|catequesis)\b"
)
DEDICATED = re.compile(
    r"\bme (?:dedico|dediko|gano la vida|ocupo)(?: (?:principalmente|actualmente|ahora|solo|mas que todo|"
    r"de lleno|tambien|basicamente|por completo|hoy en dia))? (?P<to>al|a|en|con|haciendo|vendiendo)\s+(?:la |"
    r"las |los |el |lo de (?:la |las |los )?)?"
)
HOME_OBJECT = re.compile(
    r"(?:mi |el )?(?:hogar|casa|oficios? (?:del hogar|de la casa)|labores|familia|cuidar (?:a )?(?:mis|de mis|"
    r"mi (?:casa|hogar|familia|bebe)|de mi|los ninos|el hogar|la casa)|mis hijos|mis ninos|criar|atender (?:mi|"
    r"la) (?:casa|hogar)|ser mama|quehaceres)\b"
)
HOME = re.compile(
    r"\bam[oa] de (?:la )?casa\b|\b(?:mama|madre|papa|mami) (?:de|a) tiempo completo\b|\b(?:labores|oficios?|"
    r"quehaceres) (?:del hogar|de la casa)\b|"
    r"\b(?:estoy|me quedo|me la paso|vivo|me mantengo) en (?:la |mi )?casa (?:con|cuidando|criando|"
    r"atendiendo) (?:a )?(?:mis|los|mi|el|la)\b[a-z ]{0,12}|\bdedicad[oa] (?:al?|de lleno al?) (?:mi |"
    r"la )?(?:hogar|casa|familia|mis hijos)\b|"
    r"\bcuido (?:a )?(?:mis (?:hijos|ninos|bebes|tres hijos|dos hijos|nietos)|mi hogar|mi casa|de mi casa|"
    r"de mi hogar|de mis hijos|de mi familia)\b|\bhousewife\b|\bstay[ -]at[ -]home (?:mom|mum|dad|mother)\b|"
    r"\bme encargo de (?:mi |la )?(?:casa|hogar|mis (?:hijos|ninos|nenes|bebes))\b|\b(?:crio|"
    r"educo) a mis hijos\b|\batiendo (?:mi|el|la) (?:hogar|casa)\b|\b(?:trabajo|encargada) (?:en|del|"
    r"de) (?:el )?hogar\b|\bsoy (?:del )?hogar\b"
)
STUDIES = re.compile(
    r"\b(?=[a-z])(?:(?:estoy )?(?:estudio|estudiando|cursando|curso)\b(?: (?:actualmente|ahora|la carrera de|"
    r"carrera de|"
    r"primero de|segundo de|ultimo (?:ano|semestre) de|(?:[a-z]+ )?(?:semestre|ano) (?:de|en)|una? (?:carrera|"
    r"tecnico|tecnologia|licenciatura|master|maestria) (?:en|de|de la)|un|una))?"
    r"(?: (?:de |en )?(?P<what>[a-z]+(?: (?:de|y) [a-z]+)?(?: [a-z]+(?:al|ica|ico|ial|iva|aria|ental))?))?|"
    r"(?:estoy|voy) en (?:la |el )?(?:[a-z]+ )?(?:universidad|uni|u|prepa|preparatoria|colegio|cole|"
    r"bachillerato|secundaria|facultad|facu|carrera|semestre|instituto|liceo|once|grado)\b|"
    r"(?:entrar|entre|ingresar|ingrese|empece|pase|empezando|termino|terminando|terminar) (?:a |en |mi |"
    r"el primer semestre (?:de|en) )?(?:la |el )?(?:universidad|uni|u|facultad|facu|carrera|prepa)\b|"
    r"(?:soy )?universitari[oa]\b|i study|i'?m (?:in|at) (?:college|university|school))"
)
NO_STUDY = frozenset(
    {
        "y",
        "pero",
        "en",
        "por",
        "a",
        "con",
        "la",
        "el",
        "de",
        "que",
        "para",
        "los",
        "mucho",
        "bien",
        "si",
        "como",
        "esto",
        "eso",
        "propio",
        "ahora",
        "aqui",
        "las",
        "tu",
        "su",
        "sus",
        "mi",
        "bastante",
        "de noche",
        "online",
        "mientras",
        "virtual",
    }
)
COMMUNITY_ROLE = re.compile(
    r"\b(?=[a-z])(?:soy |como )?(?:una? |el |la )?(?P<role>l[ií]der(?:esa)? (?:comunal|comunitari[oa]|social|juvenil|"
    r"religios[oa]|espiritual|cristian[oa]|barrial|vecinal|indigena|sindical|campesin[oa]|cooperativ[oa]|"
    r"de (?:mi|la|una|un|mis|jovenes|celula|alabanza|grupo) ?[a-z]*)|"
    r"president[ea] de (?:la |mi |el )?(?:junta|accion comunal|asociacion|cooperativa|consejo|comite|comunidad|"
    r"barrio|jac|sociedad de padres|colonia)[a-z ]{0,40}|coordinador[a]? (?:de pastoral|parroquial|"
    r"de la pastoral|de jovenes|comunitari[oa])|"
    r"gobernador[a]? indigena|catequista|edil|edilesa|dirigente (?:barrial|vecinal|social|comunal|"
    r"comunitari[oa]|sindical)|referente (?:barrial|social))\b|"
    r"\b(?P<leads>lidero|dirijo|pastoreo|presido|coordino|guio|tengo) (?:un |una |el |la |a un |"
    r"mi )?(?:pequen[oa] )?(?:grupo|iglesia|comunidad|congregacion|fundacion|ministerio|celula|junta|asociacion|"
    r"red de mujeres|parroquia|junta de vecinos|comedor comunitario|movimiento)\b[a-z ]{0,30}"
)
SELF_EMPLOYED = re.compile(
    r"\b(?=[a-z])(?:independientes?|freelance\w*|freelo|por (?:mi|nuestra) (?:propia )?cuenta|cuenta propia|"
    r"autonom[oa]s?|a domicilio|por mi lado|sin jefes?|mi propi[oa] jef[ea]|por encargo|por catalogo|ambulante|"
    r"trabajo sol[oa]|por pedido|self[ -]employed|rebuscador|me rebusco|monotributista|por honorarios|"
    r"cuentapropista)\b"
)
STATUS_WORD = re.compile(
    r"\b(?=[a-z])(?:so[yi]|trabajo|trabajador[a]?|i'?m|i am)(?: como| de| una?| muy)? (?P<status>independiente|"
    r"freelance|"
    r"freelancer|autonom[oa]|por (?:mi )?cuenta(?: propia)?|self[ -]employed|monotributista|cuentapropista)\b"
)
