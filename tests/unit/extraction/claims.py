"""Findings of the rules as claims of a model, which the check does not believe without proof."""

from dataclasses import fields

from nexus_stream.extraction.extractor import Findings


def as_claims(found: Findings) -> Findings:
    return Findings(**{one.name: getattr(found, one.name) for one in fields(Findings)})
