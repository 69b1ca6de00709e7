"""Patterns on folded text: how people introduce themselves, and how an assistant asks for a name."""

from __future__ import annotations

import re

from nexus_stream.extraction.rules.ownership import RELATIONS

__all__ = [
    "AFTER_NAME",
    "AFTER_PLACE",
    "APPOSED",
    "ASKS_BACK",
    "ASKS_DETAILS",
    "ASKS_IN_SHORT",
    "ASKS_NAME",
    "ASKS_OF_OTHERS",
    "ASKS_OTHER",
    "ASKS_SURNAME",
    "ASKS_WHETHER_OWNER",
    "BEFORE_SIGNATURE",
    "BOT_INTRODUCES",
    "BOT_IS",
    "CHATTERS",
    "CONFIRMS",
    "ENDS_SENTENCE",
    "ENDS_TURN",
    "FILLER",
    "FILLER_SURNAME",
    "GOES_ON",
    "GREETING",
    "GREETS",
    "INTRODUCES",
    "NICKNAME",
    "NOT_ME",
    "OF_OTHERS",
    "OTHERS",
    "PLACED",
    "RELATED",
    "SELF",
    "SEPARATES",
    "TOLD",
    "VOCATIVE",
]

# Relatives and others in Portuguese and English, besides the Spanish ones of ownership.py.
_RELATIVES = (
    r"(?:mae|pai|irma|irmao|filh[oa]|marido|namorad[oa]|vizinh[oa]|sogr[oa]|tia|tio|cunhad[oa]|chefe|patra?o|colega|"
    r"mother|father|mom|mum|dad|sister|brother|wife|husband|son|daughter|friend|boss|neighbou?r|cousin|aunt|uncle|"
    r"partner|coworker|girlfriend|boyfriend|(?:super)?visor[a]?|gerente|manager|client[ea]?|bebe)"
)

TOLD = re.compile(
    r"\b(?:me ?(?:ll|y)[ae]mo|me yamo|mi n[oe][mn]bre(?: completo| real| verdadero|"
    r" de pila)?(?: y apellidos?)?(?: es| seria| s| e)?|"
    r"el nombre(?: mio| completo)? es|(?:^|(?<=\n)|(?<=[:;,.] ))(?:nombres?|nome)(?: completo)?(?: y apellidos?)?"
    r"(?= ?[:=\-])|"
    r"mi gracia(?: es)?|my (?:full |first )?name(?:'?s| is)|(?:^|(?<=\n))(?:full )?name(?= ?:)|presentarme|me presento|"
    r"est[ao] hablando con|(?:le|te|les|os) dejo mi nombre|anot[ae] mi nombre|pon(?:ga|"
    r"gan)?(?:me)? a nombre de|me chamo|chamo-me|(?:o )?meu nome(?: completo)?(?: e)?|the name'?s|"
    r"m(?:is|eus) da[dt]os(?: s[oa][no])?(?= ?:)|de parte mia|(?:^|(?<=\n)|(?<=[:;,.] ))(?:the )?names(?= [a-z]))\b"
    r"[\s:,=.\-]{0,4}"
)
SELF = re.compile(
    r"\b(?=[a-z])(?:so[yi](?: yo(?: de nuevo| otra vez)?)?|(?:eu )?sou(?: eu,? [oa]| o| a)?|i'?m|i am|it'?s(?: me)?|"
    r"this is|"
    r"quien (?:le |te |les )?(?:habla|escribe|saluda)(?: es)?|"
    r"(?:aqui|aki) (?:quem (?:fala|escreve) )?e(?: o| a)?|(?:aqui )?(?:quem )?(?:fala|escreve)(?:ndo)? (?:e|com|aqui e)"
    r"(?: o| a)?|"
    r"(?:le |te |les |os )?(?:habla|escribe|saluda|contacta)(?: con)?|mi persona|(?:una? )?servidora?|"
    r"me identifico como|(?:^|(?<=\n)|(?<=[,;.] ))(?:mi )?(?:nombre|nome)(?: completo)?(?= [a-z]))\b"
    r"[\s:,\-]{0,3}"
)
PLACED = re.compile(
    r"\b(?:yo|(?:aqui|aca) (?:estoy|ando|me tiene|me tienes|sigo)[^,.;\n]{0,25}),\s{0,2}"
    r"|(?:^|(?<=\n))yo\s(?=[a-z])|\b(?:(?:por )?(?:aqui|aca)(?: (?:le|te|les|os) (?:habla|escribe|saluda))?|"
    r"att|atte|atentamente|firma|firmado|cordialmente|cordial saludo|atenciosamente|abracos?|regards|cheers)\b"
    r"[\s:,.\-]{0,4}"
)
# After these words a name that no list has is read too.
# "Soy su hijo Iván": whose relative the user is, then the user's name.
RELATED = re.compile(
    rf"\b(?=[is])(?:soy|sou|i'?m|i am)(?P<whose> (?:el|la|su|tu|o|a|her|his|their|the))? (?:{RELATIONS}|{_RELATIVES})"
    r"(?: del[ae]s?| de (?:ella|el|ellos|ellas))?(?(whose),?)\s"
)
NICKNAME = re.compile(
    r"\b(?=[a-z])(?:(?:todos |todo el mundo |mis amigos |la gente )?me (?:dicen|llaman|conocen como)|dime|digame|"
    r"decime|"
    r"diganme|(?:me )?(?:puede[ns]?|podes) (?:decirme|llamarme|decir|llamar)|llam(?:a|e|á)me|"
    r"calls? me|i go by|"
    r"(?:pode(?:m)? )?me chama[mr]?(?: so)?(?: de)?|pode(?:m)? chamar(?: so)? de|me conhecem (?:como|por)|"
    r"prefiero que me (?:digan|llamen))\b[\s:,]{0,2}(?:solo |nomas |el |la |o |a |so |just )?"
)
AFTER_NAME = re.compile(
    r"[, ]{0,3}(?:por (?:aca|aqui|este lado)|para servir(?:le|les|te)|a (?:la|sus|tus|su) orden(?:es)?|al habla|"
    r"reportandose|presente|"
    r"speaking|here|this side|de este lado|ell?a? (?:misma |mismo )?habla|quien (?:le|te|les) (?:habla|escribe|saluda)|"
    r"falando|aqui|aca|ao seu dispor|me llamo|me chamo|e o meu nome|is my name|es mi nombre|mi nombre|(?:le|te|"
    r"les|os) (?:habla|escribe|saluda)|"
    r"mucho gusto)\b"
)
GREETING = re.compile(
    r"\W{0,20}(?:(?:muy )?(?:buen(?:os|as)?(?: (?:dias?|tardes?|noches?))?|bo[am] (?:dia|tarde|noite)|oi+e?|"
    r"tudo b[eo]m|"
    r"good (?:morning|afternoon|evening)|hola+|ola|holi+|que tal|que hubo|quiubo|"
    r"saludos|hi|hello|hey|"
    r"un saludo|feliz (?:dia|tarde|noche)|como (?:esta|estas|estan|va|andan)|cordial saludo|dios (?:le|los|"
    r"te) bendiga|"
    r"que onda|que mas|tengan|tenga|a todos|mucho gusto|un placer|un gusto|encantad[oa]|gusto en saludar(?:los|"
    r"te|le|les)?)\b[\s,.!¡¿?:;\-]{0,4}){1,5}"
)
INTRODUCES = re.compile(
    r"\s*,\s*(?:(?:soy|tengo|trabajo|vendo|vivo|quiero|quisiera|necesito|busco|hago|estudio|estoy|mucho gusto|"
    r"sou|tenho|trabalho|vendo|moro|quero|queria|gostaria|preciso|i|para|desde|de|"
    r"ama de casa|mama|un placer|encantad[oa]|\d)\b|([a-z]+))|\s+(?:de|desde) (?=[a-z])"
)
NOT_ME = re.compile(
    r"\b(?:no|nunca|tampoco|ni|como si|si yo|ella|el(?! nombre)|quien|ayer|anoche|antier|anteayer|recien|"
    r"alguien|nadie|nao|ele|"
    r"she|he|not|isn't)\s+(?:yo\s+|eu\s+)?$"
    r"|\b(?:supon\w*|imagin\w*|digamos|finj\w*|pongamos|haz de cuenta|dice|dijo|piensa|cree|creen|creyo|penso|"
    r"dijeron) que(?: yo)? $"
    # The words of somebody else: "me escribió: «hola, soy Carlos»".
    r"|\b(?:dijo|dice|decia|escribio|mando|puso|llego|contesto|respondio|says?|said|wrote|diz|disse|falou|mandou|"
    r"mensaje|mensagem|message|audio|texto)\b[^.!?\n]{0,25}[:\"'«][^.!?\n]{0,30}$"
)
ASKS_NAME = re.compile(
    r"(?:como|cual)(?: es que)? (?:te|se|os|voce se|vc se|(?:o senhor|a senhora) se) (?:llam|nombr|"
    r"cham)(?!\w* (?:la|el|"
    r"tu|su|tus|sus|a|o|seu|sua)\b(?! (?:nombre|nome|persona)))|"
    r"como es (?:tu|su) nombre|(?<!gracias por )(?:\btu|\bsu|\bvuestro|\bseu|\bteu) (?:primer )?nom(?:br)?e\b"
    r"(?! de (?:usuario|la empresa|usuari))|"
    r"\bnombres?(?: completos?| y (?:el |los )?apellidos?| y numero| y correo|,)|\bnome (?:completo|e)\b|"
    r"con quien (?:tengo|hablo|hablamos|me comunico|converso|estoy|tenemos)|"
    r"com quem (?:eu )?(?:falo|estou|tenho|to|posso|tou|converso)|"
    r"quien (?:eres|es usted|sos|me escribe|me habla|escribe|habla|nos escribe|nos habla)|"
    r"quem (?:e voce|fala|escreve|(?:esta|ta) falando)|como (?:te|le) (?:digo|llamo|"
    r"puedo (?:llamar|decir))|como (?:eu )?posso (?:te |lhe |o |a )?chamar|"
    r"a nombre de quien|your (?:full |first )?name|who am i (?:speaking|talking|chatting)|who(?:'s| is) this|"
    r"(?:what|how) (?:should|can|may) i call you|como (?:puedo|podemos|debo|te puedo|le puedo) (?:llamar|decir)|"
    r"cual es el nombre(?! del? )|(?:de|da|dime|digame|regal\w*) (?:el|un) nombre(?! del? )|"
    r"(?:indi[cq]|di|dame|regal|confirm|necesit|deja|deje|envi|mand|escrib|compart|facilit|pas|inform|"
    r"precis)[a-z]{0,8} "
    r"(?:por favor |con |con el )?(?:tu |su |el |o |seu |o seu |un )?(?:nombre|nome)\b(?! (?:del?|da|do) )|"
    r"como (?:quieres|quiere|prefieres|prefiere|te gusta|le gusta|gostaria|quer|prefere) (?:que (?:te |le )?|"
    r"de ser |ser )?"
    r"(?:llam|dig|cham)"
)
# "¿Eres el titular?": who confirms may say who that is.
ASKS_WHETHER_OWNER = re.compile(
    r"\b(?:eres|es usted|sos|es tu|voce e|vc e|e voce|are you|is this|seria usted|hablo con|falo com|"
    r"speaking (?:with|to))"
    r"(?: usted| voce| vc| tu)? (?:el|la|o|a|the|un|una|uma?) (?:titular|duen[oa]|don[oa]|propietari[oa]|pacient?e|"
    r"client?e|"
    r"socio|socia|afiliad[oa]|account holder|owner|responsable|responsavel|encargad[oa]|interesad[oa]|usuari[oa]|"
    r"alumn[oa]|account|member|policy ?holder|contratante|beneficiari[oa]|persona|pessoa)\b"
    r"|\b(?:la cuenta|la linea|el contrato|a conta|a linha|o contrato) (?:esta|es|e) (?:a )?(?:tu|su|seu) "
    r"(?:nombre|nome)\b"
)
CONFIRMS = re.compile(
    r"\W{0,4}(?:(?:si|sip|sim|claro|yes|yep|yeah|correcto|exacto|asi es|efectivamente|isso|isso mesmo|exato|correct|"
    r"soy yo|sou eu|el mismo|la misma|yo mismo|yo misma|eu mesm[oa]|that's me|it's me)\b[\s,.!:\-]{1,4}){1,3}"
)
ASKS_IN_SHORT = re.compile(
    r"(?:^|[¿.!?,:]\s*)(?:y |e |and )?(?:(?:el|tu|su|tus|sus|seu|me das|me da|me regalas?|me dices?|your) )?"
    r"(?:nombres?|nome|name)(?:(?: y | e | and |, ?)(?:tu |su |seu |your |un |el )?[a-z]+){0,3}\s*[?:]"
    # A sentence of its own: "Nombre y teléfono."
    r"|(?:^|[?!.:] )(?:tu |su |seu |your )?(?:nombres?|nome|name)(?:(?: y | e | and |, ?)(?:tu |su |seu |your |un |"
    r"el )?[a-z]+){0,3}\s?(?:[.,]|$)"
)
# The answer may be a name, among other things.
ASKS_DETAILS = re.compile(
    r"\b(?:(?:tus|sus|los|unos|vuestros|algunos|seus|os) da[td]os|da[td]os (?:de contacto|de contato|personales)|"
    r"(?:your|contact) details|(?:tu|su|un|seu|o seu|your) contact?o?|formulario|cadastro|registrar(?:te|lo|la|se)?)\b"
)
# The answer is the name of somebody or something else.
ASKS_OTHER = re.compile(
    r"\b(?:quien|quem|who)\b(?! (?:eres|es usted|sos|me|nos|escribe|habla|tengo|hablo|falo|fala|am i))|"
    r"\bnom(?:br)?e del?\b|\bname of\b|\bse (?:llama|chama) (?:tu|su|la|el|a|o|seu|sua|ella)\b|\bciudad|\bcidade|"
    r"\bcity|\bdonde|\bonde|\bwhere|\bbarrio|\bmunicipio|\bestado\b|\bpais\b|\bmarca|\bempresa\b|\bproducto|"
    r"\bproduto|\buniversi|\bcolegio|\bescuela|\bescola|\bbanco\b|\bdireccion|\benderec|\baddress|\bsede\b|"
    r"\balguien\b|\breferid|\bconoces a\b|\banyone\b|\balguem\b|\bindicar\b|\basesora? (?:te|le|la|lo|que)|"
    r"\bcual (?:de|plan|curso)|\bque (?:plan|curso|asesora?|tienda|color|talla)"
)
ASKS_BACK = re.compile(r"\by (?:el|la|los) (?:tuy|suy)[oa]s?\b|\be (?:o )?(?:seu|voce|vc)\s*\?|\band yours?\b")
_BEINGS = (
    rf"(?:{RELATIONS}|mascotas?|perr\w+|gat\w+|cachorr\w+|"
    r"bebes?|ninit[oa]|paciente|alumn\w+|acompanante|conyuge|estudiante|pet|dog)"
)
ASKS_OF_OTHERS = re.compile(
    rf"\b(?:el|la|los|las|su|tu|o|a|seu|sua|the|your) {_BEINGS}\b[^?.!\n]{{0,25}}\b(?:llama\w*|nombres?|nome|name|"
    rf"chama\w*)\b"
    rf"|\b(?:nombre|nome|name) (?:completo )?(?:de |del |da |do |of )(?:la |el |su |tu |sua |seu |your |"
    rf"the )?{_BEINGS}\b"
)
ASKS_SURNAME = re.compile(r"\b(?:apellidos?|sobrenome|last name|surname)\b")
FILLER = re.compile(
    r"\W*(?:(?:claro(?: que si)?|si|sim|yes|yeah|pode ser|puede ser|hi|hello|ola|oi+e?|bo[am] (?:dia|tarde|noite)|"
    r"(?:o )?meu nome(?: e)?|me chamo|(?:eu )?sou(?: o| a)?|(?:aqui )?e(?: o| a)?|prazer|obrigad[oa]|"
    r"the name is|thanks|no(?=,)|com(?: o| a)?|p[ou]n(?:ga)?(?:le|me)|ponga|anot[ae]|apunt[ae]|registr[ae]|"
    r"hola|buenas(?: tardes| noches)?|buenos dias|buen dia|con (?:mucho )?gusto|"
    r"por supuesto|ok|okay|"
    r"vale|dale|pues|p(?:o?s+|z)|"
    r"bueno|bien|ah|eh|mm+|con|soy|so[yi]|es|me llamo|mi nombre(?: es)?|mucho gusto|encantad[oa]|"
    r"gracias|yo|a ver|mira|"
    r"mire|habla(?:s)?(?: con)?|le habla|te habla|el mio es|obvio|(?:ja)+|nombre|a nombre de|senor|senora|don|"
    r"dona|perfecto|listo|va|"
    r"sale|este|my name(?: is|'?s)|i'?m|it'?s|this is|sure|soy yo|mis datos(?: son)?|meus dados|"
    r"les? dejo mis datos|para servirle|che|uy|oye|seria|como no|desde luego|venga|"
    r"el (?:nombre )?es|completo)\b[\s,.:;!¡\-]{0,4})*"
)
FILLER_SURNAME = re.compile(
    r"(?:(?:mi )?apellidos?(?: es| son)?|el apellido es|(?:meu )?sobrenome(?: e)?|(?:el )?apellido se escribe|"
    r"(?:my )?(?:last name|"
    r"surname)(?: is)?)"
    r"\b[\s:,]{0,3}"
)
GOES_ON = re.compile(
    r"\s*(?:y|pero|mi|tengo|de|del|sin|sem|without|soy|and|desde|para|a la orden|mucho|trabajo|vivo|por|en|con|aunque|"
    r"anota|anote|el|la|es|"
    r"mi|cel|tel|numero|correo|whatsapp|quiero|gracias|senor|senora|me|le|estoy|i|my|estudio|vendo|tambien|que|"
    r"aqui|aca|ce|celu|celular|identificad[oa]|telefono|tlf|movil|wsp|wpp|wasap|zap|whats|e|meu|minha|com|"
    r"mas|sou|moro|tenho|trabalho|"
    r"quero|o|a|but|my|phone|email|e-mail|mail|gmail|from|at|number|cc|cedula|edad|anos|a sus ordenes)\b"
)
# Chat words that end a turn after a name.
CHATTERS = re.compile(
    r"\s*(?:(?:pues|p?ss|ps|pe|po|mesm[oa]|mism[oa]|nomas|nada mas|so isso|xfa|xfis|porfa\w{0,3}|plis+|pls+|plz|btw|"
    r"lol|"
    r"thx|thanks|ty|ok|si|sii+|jeje\w{0,6}|ja(?:ja)+j?|haha\w{0,6}|k{2,9}|rsrs|bb|bro|amig[oa]|tqm|saludos|gracias|"
    r"bendiciones|obrigad[oa]|abracos?|vlw|blz|xd+)\b[\s,.!]{0,3}){1,3}[^a-z0-9]*$"
)
ENDS_SENTENCE = re.compile(r"\s*(?:[.!\n]|$)")
ENDS_TURN = re.compile(r"[\s.!)\-_*]*[^a-z]{0,8}$")
# Between the parts of an answer with several values: "3005550101 - marta quiceno, de Cali".
SEPARATES = re.compile(
    r"(?:[,;:|/\n\d)]|\s[-+]\s|[.!?]\s|\s(?:y|e|and|pero|but|a nombre de)\s)[\s\d\-+().,:;|/]{0,20}(?=[a-z])"
)
BEFORE_SIGNATURE = re.compile(r"[,.!;\n\-–]\s{0,3}(?=[a-z])")
OTHERS = re.compile(
    rf"\b(?:mi|mis|su|un|una|el|la|de|con|nuestr[oa]) (?:[a-z]+ )?{RELATIONS}\b|\bse llaman?\b|\b(?:recomend|"
    rf"invit|refiri|dijo|paso|hablo|mando|parte|"
    r"presento|conoci|conozco|amig|segun|gracias a|como|casad[oa] con|hij[oa] de|nieta? de|llamad[oa]|tal|ella|"
    r"ellos|don|dona|del?)\w*\s*$"
    r"|\b(?:recomend\w+|invit\w+|refiri\w+|me (?:dijo|dio|paso|mando|hablo|presento|conto)|de parte(?! mia)|me envia|"
    r"vengo de)\b"
    rf"|\b(?:minha|meu|my|the|his|her|a|o|da|do|com|with|una?|uma?) (?:[a-z]+ )?{_RELATIVES}\b|\bse chamam?\b|"
    r"\b(?:called|named|indic\w+|mandou|falou|disse|told me|referred|sent me|pregunt\w+ por|hablar? con|falar com|"
    r"llam\w+ a|para)\b\s*(?:el |la |o |a )?$|\bpara (?:mi|el|la|un|una|minha|meu)\b|\bfor my\b"
)
# Before the name of a street, a quarter or a building.
AFTER_PLACE = re.compile(
    r"\b(?:calles?|av|avda|avenida|barrio|bairro|cra|carrera|cll|kra|kr|jr|jiron|pasaje|colonia|col|urb|urbanizacion|"
    r"conjunto|vereda|rua|travessa|praca|edificio|colegio|escuela|escola|hospital|clinica|estacion|metro|plaza|parque|"
    r"iglesia|parroquia|universidad|sector|zona|torres?|residencial|residencias?|condominio|fraccionamiento|fracc|"
    r"municipio|ciudad|pueblo|corregimiento|villa|san|santa|santo|vila|jardim|street|st|avenue|ave|road|instituto|"
    r"comuna|distrito|delegacion|alcaldia|provincia|departamento|puente|esquina|entre)\b\.?\s{0,2}"
    r"(?:de |del |la |el |da |do |los |las )?$"
)
# Right after a name: it is somebody else's.
OF_OTHERS = re.compile(
    rf"[\W\d]{{0,30}}(?:que |quien |y )?(?:es|era|fue|is|e) (?:mi|el|la|un|una|su|my|the|meu|minha|o|a|quien|que) "
    rf"(?:{RELATIONS}|{_RELATIVES}|que|quien|me)\b"
    r"|\s{0,2}(?:me (?:dijo|dio|paso|mando|recomend\w+|invit\w+|hablo|refirio|conto|llamo|escribio|atendio)|"
    r"told me|sent me|me (?:falou|indicou|mandou|passou))\b"
)
# Right after a name that nobody introduced: "Héctor Salas, mi esposo".
APPOSED = re.compile(
    rf"[\s,(]{{1,4}}(?:es )?(?:mi|my|meu|minha) (?:{RELATIONS}|{_RELATIVES})\b(?=\W*(?:$|[\d\n])|\s{{0,2}}[,.)])"
)
GREETS = re.compile(
    r"\b(?:hola+|gracias|oye|oiga|hey|hi|hello|saludos|che|oi+e?|ola|senor(?:ita|a)?|bo[am] (?:dia|tarde|noite)|"
    r"buen(?:os|as)? (?:dias?|tardes|noches)) $"
    r"|\b(?:gracias|obrigad[oa]|thanks|thank you|ok|okay|listo|vale|dale|bendiciones|adios|chao|tchau),? $"
)
VOCATIVE = re.compile(
    r"(?:^|[.,!?¡¿:;)]\s{0,2}|\b(?:hola|gracias|gusto|placer|encantad[oa]|bienvenid[oa]|honor|hi|hello|hey|"
    r"bendiciones|dias?|tardes?|noches|noite|oi|ola|obrigad[oa]|prazer|beleza|legal|thanks|claro|perfecto|"
    r"listo|entiendo|entendido|comprendo|ok|vale|genial|senor|senora|senorita|don|dona|sr\.?|sra\.?|dr\.?|"
    r"dra\.?|doctor|doctora|pastor|pastora|profe)\s)"
    r"[^\w]{0,3}(?=([a-z]{2,})(?: [a-z]+){0,4}\s?(?:[.,!?:;)]|$|[^\w\s]))"
)
BOT_INTRODUCES = re.compile(
    r"\b(?=[a-z])(?:soy|(?:te|le|les) (?:saluda|habla|escribe)|me llamo|mi nombre es|i'?m|sou a|sou o|"
    r"aqui e [ao]|me chamo|"
    r"meu nome e|my name is|this is) ([a-z]+(?: [a-z]+)?)"
)
BOT_IS = re.compile(
    r"\b(?:soy|saluda|habla|escribe|me llamo|nombre es|sou [ao]|me chamo|nome e|"
    r"i'?m|name is|this is|asesora?|asistente|assistente)\W+(?:[a-z]+\W+)?$"
)
