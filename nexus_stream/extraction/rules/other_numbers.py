"""Tell a phone number from the other numbers of a chat: prices, amounts, dates, identity, order and file numbers."""

from __future__ import annotations

import re

from nexus_stream.extraction.text import UserTurn, clause_before, last_match

__all__ = ["asks_for_other", "is_other_number", "speaks_of_phone", "tells_other"]

_THOUSANDS = re.compile(r"\(?\d{1,3}(?:[.,']\d{3})+\)?(?:[.,]\d{1,2})?")
_MONEY_BEFORE = re.compile(
    r"(?:\$|€|£|\b(?:cop|usd|mxn|ars|eur|us|por|en|de|a|r|brl|s/) ?\$|\bs/\.?|\b(?:cop|usd|mxn|ars|eur|brl))\s*$"
)
_MONEY_AFTER = re.compile(
    r"\s{0,3}(?:\$|€|%|\b(?:de )?(?:pesos|peso|millones|millon|mil|dolares|euros|soles|usd|cop|mxn|ars|varos|"
    r"lucas|reais|"
    r"real|contos|bucks|dollars|palos|guaranies|bolivares|lempiras|quetzales|colones|kg|km|metros|"
    r"anos|dias|horas|unidades|followers|seguidores)\b)"
)
_DOCUMENTS = (
    r"cedula|c\.?c|c\.i|dni|nit|rut|rfc|curp|nie|nif|cif|cuit|cuil|cpf|cnpj|rg|cep|pasaporte|passaporte|passport|ssn|"
    r"documento|identificacion|identidad|identidade|matricula|radicado|expediente|expte|exp|factura|fatura|"
    r"invoice|nota fiscal|"
    r"boleto|pedido|orden|order|guia|tracking|rastreo|rastreio|ticket|contrato|poliza|apolice|protocolo|folio|tarjeta|"
    r"cartao|seguimiento|pago|compra|transaccion|transacao|usuario|clave|envio|licencia|servientrega|interrapidisimo|"
    r"coordinadora|cbu|clabe|iban|consignacion|recibo|tramite|nss|ruc|serial|placa|chassi|vin|zip|codigo postal|"
    r"reserva|"
    r"reservation|booking|localizador|voucher|socio|afiliado|membresia|cotizacion|orcamento"
)
_IDENTITY = re.compile(
    rf"\b(?=[a-z])(?:{_DOCUMENTS}|caso|referencia|ref|cuenta|conta|account|codigo|code|serie|lote|imei|sku|registro|proceso|processo|solicitud|id|"
    r"turno|senha|comprobante|comprovante)\b"
)
_DIRECT = (
    r"tel|telf|telefon\w*|cel\w*|movil|whats\w*|wasap\w*|guasap\w*|watsap\w*|wsp|wpp|wa|wap|zap\w*|fono|linea|phone|cell|text|"
    r"tlf|telemovel|llam\w+|lig\w+|call"
)
_STRICT_CUE = re.compile(rf"\b(?=[a-z])(?:{_DIRECT})\b")
_PHONE_CUE = re.compile(
    rf"\b(?=[a-z])(?:{_DIRECT}|numero|num|nro|number|marc\w+|contact\w+|contat\w+|indicativo|escrib\w+|escrev\w+|al|lada|ddd|reach)\b"
)
_ASKS_FOR_DOCUMENT = re.compile(
    rf"\b(?=[a-z])(?:numero|num|nro|no|codigo|number|code|n)\W{{0,3}}(?:(?:de|del|da|do|of|tu|su|la|el|seu|sua|your|o|a)\b\W{{0,2}}){{0,4}}"
    rf"(?:{_DOCUMENTS}|cuenta|conta|account|referencia|caso|serie)\b"
    rf"|\b(?:cual|qual|what|me|tu|su|seu|sua|your|teu|tua)\b[^.?!\n]{{0,30}}\b(?:{_DOCUMENTS})\b[^.!\n]{{0,25}}\?"
    rf"|\b(?:dime|digame|compart\w+|indic\w+|envi\w+|pas\w+|di[gj]\w+|ingres\w+|confirm\w+|regal\w+|mand\w+|informe)\b"
    rf"[^.?!\n]{{0,30}}\b(?:{_DOCUMENTS})\b"
    rf"|\b(?:{_DOCUMENTS}|referencia|codigo(?! de area)|cuenta|monto|unidades|cantidad|"
    rf"valor)\b(?: de [a-z]+)?\W{{0,3}}\?"
)


_ASKS_DETAILS = re.compile(r"\b(?:datos|dados|details|contact\w*|contat\w*)\b")
_TELLS_OTHER = re.compile(
    rf"\b(?:{_DOCUMENTS}|codigo|referencia|cuenta|conta)\b\W{{0,2}}(?:(?:es|e|is|del?|el|numero)\b\W{{0,2}}){{0,3}}$"
)
_TOLL_FREE = re.compile(r"\b1?\W{0,2}8(?:00|88|77|66|55|44|33)\W{0,2}\d{3}\W{0,2}\d{4}\b")


def tells_other(folded: str) -> bool:
    """Whether a turn ends with an announcement of a document or an order number: "mi cédula es"."""
    return _TELLS_OTHER.search(folded[-60:]) is not None


def speaks_of_phone(folded: str, *, strictly: bool = False) -> bool:
    """Whether the text speaks of a phone.

    Args:
        folded: The text before a number, or the assistant's question.
        strictly: Leave out words that also announce other numbers, such as "número".
    """
    return (_STRICT_CUE if strictly else _PHONE_CUE).search(folded) is not None


def asks_for_other(turn: UserTurn) -> bool:
    """Whether the assistant asked for a document or an order number, and for no phone."""
    if _ASKS_FOR_DOCUMENT.search(turn.asked) is None:
        return False
    # Only the end of the assistant's turn asks: before, it may have spoken of anything.
    return not speaks_of_phone(turn.asked[-200:], strictly=True) and _ASKS_DETAILS.search(turn.asked[-200:]) is None


def is_other_number(folded: str, start: int, end: int, *, plus: bool) -> bool:
    """Whether the digits at ``start``..``end`` are an amount, or the number of a document or an order.

    Args:
        folded: The turn.
        start: Start of the digits.
        end: Their end.
        plus: Whether a plus sign stands before them.
    """
    if _MONEY_BEFORE.search(folded[max(0, start - 8) : start]) or _MONEY_AFTER.match(folded, end):
        return True
    if plus:
        return False
    if _TOLL_FREE.match(folded, start):
        return True
    before = clause_before(folded, start, limit_chars=60)
    if _THOUSANDS.fullmatch(folded, start, end) and not speaks_of_phone(before[-25:], strictly=True):
        return True
    if folded[start - 1 : start] == "#" and not speaks_of_phone(before, strictly=True):
        return True
    identity = last_match(_IDENTITY, before)
    if identity is None:
        return False
    return _PHONE_CUE.search(before, identity.end()) is None
