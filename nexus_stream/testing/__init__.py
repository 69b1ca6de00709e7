"""Fakes that behave, for our tests and for users' own.

A clock turned by hand, a broker and a table in memory, a script for the extractor. Each has tests of its own, and the
stages run on them without Faust.
"""
