"""Fakes with real behaviour, for our tests and for the tests of users.

There is a clock that tests advance, a broker and a table in memory, and an extractor that follows a script. Each fake
has its own tests. The stages run on them without Faust.
"""
