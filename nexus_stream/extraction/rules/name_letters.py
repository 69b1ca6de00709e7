"""Read letters: names spelled out ("be erre a ye", "M-A-R-I-A") and corrections of one letter ("es con z", "sin h").

A correction is applied only if exactly one spelling can be meant. Otherwise the name stays as it is.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from difflib import SequenceMatcher

from nexus_stream.extraction.rules.letters import SPOKEN
from nexus_stream.extraction.rules.lexicon import any_of, word_list
from nexus_stream.extraction.rules.name_reading import NameRun
from nexus_stream.extraction.rules.name_words import PARTICLES, has_any, is_boundary, is_listed
from nexus_stream.extraction.text import UserTurn, fold

__all__ = ["corrected_letters", "read_spelled", "respelled"]

# A longer name of a letter is tried before its own beginning: "be larga" before "be".
_LETTER = any_of([*SPOKEN, *"abcdefghijklmnopqrstuvwxyz"])
_STEP = re.compile(rf"(?:con )?(?P<letter>{_LETTER})(?: de [a-z]{{3,12}})?(?![a-z])")
_APART = re.compile(r"[\s,.\-]{1,3}")
_DASHED = re.compile(r"(?<![a-z\-])[a-z](?:[-.][a-z]){2,24}(?![a-z])(?: [a-z](?:[-.][a-z]){2,24}(?![a-z])){0,3}")
_INTRO = re.compile(
    r"[\s,.:;()\"'-]{0,4}(?:(?:(?:que |lo |la |y )?(?:se )?(?:escrib[eo]|escrito|deletre\w*|soletr\w*|spelled|spell)"
    r"(?: asi| como)?|o sea|es decir|that's)\b[\s,.:;\"'-]{0,4})?"
)
# Letters that are words too. At the end they belong to the name only if the name as heard has them.
_WORDS_TOO = frozenset({"a", "e", "o", "y", "u", "de", "te", "que", "con"})
_MIN_LETTERS = 3
_MAX_LETTERS = 25
_SIMILAR = 0.55


def _ratio(first: str, second: str) -> float:
    return SequenceMatcher(None, first, second, autojunk=False).ratio()


def read_spelled(turn: UserTurn, position: int, heard: str = "") -> NameRun | None:
    """Read a name spelled letter by letter at ``position``; ``heard`` is the name as written before."""
    intro = _INTRO.match(turn.folded, position)
    start = intro.end() if intro else position
    dashed = _DASHED.match(turn.folded, start)
    if dashed is not None:
        words = tuple(re.sub(r"[-.]", "", word) for word in turn.text[start : dashed.end()].split(" "))
        return NameRun(words, start, dashed.end(), known=True)
    letters: list[tuple[str, str, int]] = []
    place = start
    while len(letters) < _MAX_LETTERS:
        step = _STEP.match(turn.folded, place)
        if step is None:
            break
        spoken = step.group("letter")
        letter = SPOKEN.get(spoken, spoken)
        if spoken == "ene" and "ñ" in turn.text[step.start() : step.end()].lower():
            letter = "ñ"
        letters.append((spoken, letter, step.end()))
        gap = _APART.match(turn.folded, step.end())
        if gap is None:
            break
        place = gap.end()
    spellings = []
    goes_on = bool(letters) and not is_boundary(turn.folded, letters[-1][2])
    while len(letters) >= _MIN_LETTERS:
        spelled = "".join(letter for _, letter, _ in letters)
        spellings.append((_ratio(fold(spelled), heard) if heard else 0.0, spelled, letters[-1][2]))
        if letters[-1][0] not in _WORDS_TOO or (not heard and (letters[-1][0] == "a" or not goes_on)):
            break
        letters.pop()
    # Without a name as heard, words at the end are no letters.
    best = (max(spellings) if heard else spellings[-1]) if spellings else None
    if best is None or not re.search(r"[aeiouy]", fold(best[1])):
        return None
    return NameRun((best[1],), start, best[2], known=True)


def respelled(turn: UserTurn, run: NameRun) -> NameRun:
    """Apply the letters that follow a name: ``me llamo Brayan, be erre a ye hache a ene``."""
    for index in range(len(run.words) - 1, -1, -1):
        heard = fold(run.words[index])
        if heard in PARTICLES:
            continue
        spelled = read_spelled(turn, run.end, heard)
        if spelled is None:
            return run
        if len(spelled.words) == 1 and _ratio(fold(spelled.words[0]), heard) >= _SIMILAR:
            if fold(spelled.words[0]) == heard:
                return NameRun(run.words, run.start, run.end, known=True)
            words = (*run.words[:index], spelled.words[0], *run.words[index + 1 :])
            return NameRun(words, run.start, spelled.end, known=True)
    return run


_TAIL = r"(?: (?:de [a-z]{3,12}|larga|corta|alta|baja|chica|grande|intermedia|labial))?"
_NOT = rf"(?:,? (?:y )?(?:no|en vez de|en lugar de|nao|not)(?: con)? (?:la )?(?P<not>{_LETTER}))?"
_CHANGE = re.compile(
    rf"\b(?P<with>con|com|with)(?: (?:la|una?|el|a))?(?: letra)? (?P<double>doble |dos |"
    rf"dupl[oa] )?(?P<letter>{_LETTER})"
    rf"(?P<sort>{_TAIL[:-1]})?(?P<place>,? (?:al final|al principio|inicial|no (?:final|fim)|"
    rf"no comeco|at the end))?{_NOT}"
    rf"|\b(?P<without>sin|sem|without)(?: (?:la|el|o|an?))? (?P<removed>{_LETTER}|tilde|acento)(?![a-z])"
    rf"|\b(?P<last>(?:termina|acaba|finaliza|ends)(?: en| com| con| with)|(?:la )?ultima(?: letra)?(?: es)?|a ultima e|"
    rf"al final (?:es|va|lleva))"
    rf"(?: con)?(?: (?:la|una?))? (?P<end>{_LETTER}){_TAIL}"
    rf"(?:,? (?:y )?(?:no|en vez de|nao|not)(?: con| en)? (?:la )?(?P<notend>{_LETTER}))?"
    rf"|\b(?:empieza|comienza|inicia|comeca|starts)(?: con| por| com| with)(?: (?:la|"
    rf"una?))? (?P<first>{_LETTER})"
)
_ABOUT_CONTACT = re.compile(r"\b(?:correo|e-?mail|mail|arroba|punto|gmail|numero|celular|cel|telefono|dominio)\b|@|\d")
_OPTIONS = re.compile(
    r"\b(?:plan|opcion|vitamina|paquete|combo|tipo|talla|grupo|nivel|categoria|opcao|option)\b|\?.*\bo\b"
)
_SPELLING = re.compile(r"\b(?:es|e|va|lleva|vai|escrib\w*|nombre|apellidos?|nome|sobrenome|mejor)\W*$")
_ABOUT_NAME = re.compile(r"\b(?:nombre|apellidos?|nome|sobrenome|name|me llamo|soy)\b")
_ALIKE = {
    "z": ("s", "c"), "s": ("z", "c", "x"), "c": ("s", "z", "k", "q"), "k": ("c", "qu", "q"), "q": ("k", "c"),
    "b": ("v", "w"), "v": ("b", "w"), "w": ("v", "gu", "u", "hu"), "y": ("ll", "i", "j"), "i": ("y",), "ll": ("y",),
    "j": ("g", "x", "y", "h"), "g": ("j", "gu"), "x": ("j", "s", "ks", "cs"), "m": ("n",), "n": ("m",), "f": ("ph",),
    "ph": ("f",), "ñ": ("n", "ny"), "t": ("th",), "d": ("t",), "r": ("l",), "l": ("r",),
}  # fmt: skip
_MAX_CHANGES = 8
# A turn without any of these corrects no letter.
_HINTS = ("con ", "com ", "with", "sin ", "sem ", "en ", "ltima", "final", "por ", "-", "scrib", "deletre", "spell")
# Names that are written with ñ, folded.
_WITH_ENYE = word_list("names_with_enye")
_CHANGE_ENDS = re.compile(
    r"\s*(?:[^a-z\s]|$|\n)|\s+(?:y|e|no|en|por|pero|gracias|porfa\w*|please|mi|es|nao|not|al|tambien|and|sin|con|mas)\b"
)
_SPELLS = re.compile(
    r"\W{0,4}(?:(?:no|perdon|disculp[ae]|mi nombre|es|asi|ojo|mire|mira|va|si|sim|nao|desculpa|el nombre|it's|my name)"
    r"[\s,:.]{1,3}){0,3}"
)


def _nearest(words: tuple[str, ...], key: str) -> int | None:
    """The word of the name that the spelled word stands for."""
    ratios = [_ratio(fold(word), key) for word in words]
    best = max(range(len(words)), key=lambda index: ratios[index])
    return best if ratios[best] >= _SIMILAR else None


def corrected_letters(
    turn: UserTurn, known: tuple[str, ...], *, same_turn: bool
) -> tuple[tuple[str, ...], int, int] | None:
    """Apply "es con z" and the like to the known name: the words and the span; None if it cannot be read."""
    if not has_any(turn.folded, _HINTS):
        return None
    words = known
    span: tuple[int, int] | None = None
    spelled = None if same_turn else _SPELLS.match(turn.folded)
    if spelled is not None:
        run = read_spelled(turn, spelled.end())
        index = _nearest(known, fold(run.words[0])) if run is not None and len(run.words) == 1 else None
        if run is not None and index is not None:
            words, span = (*known[:index], run.words[0], *known[index + 1 :]), (run.start, run.end)
            return (words, *span) if fold(run.words[0]) != fold(known[index]) else None
    for number, change in enumerate(_CHANGE.finditer(turn.folded)):
        if number == _MAX_CHANGES:
            break
        before = re.split(r"[.!?\n]", turn.folded[max(0, change.start() - 60) : change.start()])[-1]
        about_name = list(_ABOUT_NAME.finditer(before))
        about_contact = list(_ABOUT_CONTACT.finditer(before))
        if not _CHANGE_ENDS.match(turn.folded, change.end()):
            continue
        spoken = change.group("letter") or change.group("removed")
        if spoken in _WORDS_TOO and not re.search(r"\b(?:la|letra|uma?|una) \w+", change.group()):
            continue
        if change.group("with") and not _is_about(words, change, before, turn):
            continue
        if about_contact and (not about_name or about_name[-1].start() < about_contact[-1].start()):
            continue
        if "@" in turn.asked and not about_name and not any(fold(word) in before for word in words):
            continue
        changed = _change(words, change, turn, before, same_turn=same_turn)
        if changed is not None and changed != words:
            words = changed
            span = (span[0] if span else change.start(), change.end())
    return (words, *span) if span is not None else None


def _is_about(words: tuple[str, ...], change: re.Match[str], before: str, turn: UserTurn) -> bool:
    """Whether "con b" is about the name, and not about a plan or a vitamin."""
    if _OPTIONS.search(before) or _OPTIONS.search(turn.asked):
        return False
    if change.group("not") or change.group("place") or change.group("double") or change.group("sort"):
        return True
    if "ñ" in turn.text[change.start() : change.end()].lower():
        return True
    keys = {fold(word) for word in words}
    return _SPELLING.search(before) is not None or not keys.isdisjoint(re.findall(r"[a-z]+", before + " " + turn.asked))


def _letter(spoken: str | None, tail: str) -> str:
    """The letter meant: "be de vaca" is a v, and "be corta" too."""
    letter = SPOKEN.get(spoken or "", spoken or "")
    example = re.search(r" de ([a-z])[a-z]", tail)
    if example is not None and (example.group(1) in _ALIKE.get(letter, ()) or letter == "h"):
        return example.group(1)
    return letter


def _change(
    words: tuple[str, ...], change: re.Match[str], turn: UserTurn, before: str, *, same_turn: bool
) -> tuple[str, ...] | None:
    places = _places(words, before)
    tail = change.group()
    if change.group("without"):
        return _only(words, places, lambda word: _without(word, change.group("removed")))
    spoken = change.group("letter") or change.group("end") or change.group("first")
    letter = "ñ" if spoken in ("ene", "n") and "ñ" in turn.text[change.start() : change.end()].lower() else ""
    letter = letter or _letter(spoken, tail)
    banned = change.group("not") or change.group("notend")
    wrong = SPOKEN.get(banned or "", banned or "")
    place = change.group("place") or ""
    if change.group("last") or "final" in place or "fim" in place or "end" in place:
        return _only(words, places, lambda word: _at_end(word, letter, wrong), last_first=True)
    if change.group("first") or "principio" in place or "inicial" in place or "comeco" in place:
        return _only(words, places, lambda word: _at_start(word, letter, wrong))
    if change.group("double") or len(set(letter)) < len(letter):
        return _only(words, places, lambda word: _doubled(word, letter[0]))
    explained = range(len(words)) if same_turn else places if _assistant_differs(words, turn) else ()
    if not wrong and any(letter in fold(words[index]) for index in explained):
        # The name has the letter already: the user explains the spelling, or corrects the assistant's.
        return None
    return _only(words, places, lambda word: _replaced(word, letter, wrong))


def _places(words: tuple[str, ...], before: str) -> list[int]:
    """The words of the name that the correction may be about."""
    spoken = re.findall(r"[a-z'-]+", before)
    keys = [fold(word) for word in words]
    named = [index for index, key in enumerate(keys) if key in spoken[-4:] and key not in PARTICLES]
    if named:
        return named[-1:]
    if "apellido" in before or "sobrenome" in before:
        return [index for index in range(1, len(words)) if keys[index] not in PARTICLES]
    if re.search(r"\b(?:nombre|nome)\b", before):
        return [index for index in range(max(1, len(words) - 1)) if keys[index] not in PARTICLES]
    return [index for index, key in enumerate(keys) if key not in PARTICLES]


def _assistant_differs(words: tuple[str, ...], turn: UserTurn) -> bool:
    keys = {fold(word) for word in words}
    asked = set(re.findall(r"[a-z]{3,}", turn.asked[:2000]))
    return any(_ratio(one, key) >= 0.75 for key in keys - asked for one in asked if one[0] == key[0])


def _only(
    words: tuple[str, ...], places: list[int], spellings: Callable[[str], list[str]], *, last_first: bool = False
) -> tuple[str, ...] | None:
    """The name with the only spelling that can be meant; None if there is none or more than one."""
    found = [(index, spelling) for index in places for spelling in spellings(words[index])]
    if last_first and len(found) > 1:
        found = found[-1:]
    if len(found) > 1:
        listed = [item for item in found if is_listed(fold(item[1])) and not is_listed(fold(words[item[0]]))]
        listed = listed or [item for item in found if is_listed(fold(item[1]))]
        found = listed
    if len(found) != 1:
        return None
    index, spelling = found[0]
    return (*words[:index], spelling, *words[index + 1 :])


def _case_like(word: str, index: int, letter: str) -> str:
    old = word[index] if index < len(word) else word[-1]
    return letter.upper() if old.isupper() else letter


def _replaced(word: str, letter: str, wrong: str) -> list[str]:
    key = fold(word)
    if letter == "h":
        # "con h": where a listed name has it.
        longer = [_inserted(word, index, "h") for index in range(len(word) + 1)] if "h" not in key else []
        return [spelling for spelling in longer if is_listed(fold(spelling))]
    if letter in ("tilde", "acento"):
        return []
    spellings = []
    for old in (wrong,) if wrong else _ALIKE.get(letter, ()):
        for match in re.finditer(re.escape(fold(old)), key):
            if letter == "ñ" and (word[match.start()] in "ñÑ" or key not in _WITH_ENYE):
                continue
            spelling = word[: match.start()] + _case_like(word, match.start(), letter) + word[match.end() :]
            spellings.append(spelling)
    return spellings


def _inserted(word: str, index: int, letter: str) -> str:
    if index == 0:
        return _case_like(word, 0, letter) + word[0].lower() + word[1:]
    return word[:index] + letter + word[index:]


def _without(word: str, removed: str) -> list[str]:
    if removed in ("tilde", "acento"):
        bare = "".join(
            part for part in unicodedata.normalize("NFD", word) if part == "\u0303" or not unicodedata.combining(part)
        )
        bare = unicodedata.normalize("NFC", bare)
        return [bare] if bare != word else []
    letter = SPOKEN.get(removed, removed)
    key = fold(word)
    places = [match.start() for match in re.finditer(re.escape(letter), key)]
    if len(places) != 1 or len(word) <= len(letter) + 2:
        return []
    rest = word[: places[0]] + word[places[0] + len(letter) :]
    return [rest[0].upper() + rest[1:] if word[0].isupper() else rest]


def _at_end(word: str, letter: str, wrong: str) -> list[str]:
    key = fold(word)
    if key.endswith(letter):
        return []
    if (wrong and key.endswith(wrong)) or (not wrong and key[-1] in _ALIKE.get(letter, ())):
        return [word[:-1] + _case_like(word, len(word) - 1, letter)]
    longer = word + _case_like(word, len(word) - 1, letter)
    return [longer] if not wrong and is_listed(fold(longer)) else []


def _at_start(word: str, letter: str, wrong: str) -> list[str]:
    key = fold(word)
    if key.startswith(letter):
        return []
    if (wrong and key.startswith(wrong)) or (not wrong and key[0] in _ALIKE.get(letter, ())):
        return [_case_like(word, 0, letter) + word[1:]]
    return [_inserted(word, 0, "h")] if letter == "h" and key[0] in "aeiou" else []


def _doubled(word: str, letter: str) -> list[str]:
    key = fold(word)
    places = [match.start() for match in re.finditer(re.escape(letter), key)]
    if letter * 2 in key or len(places) != 1:
        return []
    return [word[: places[0]] + word[places[0]] + word[places[0] :]]
