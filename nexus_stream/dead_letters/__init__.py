"""Operator tools for dead letters: list, show, redrive, discard. See docs/howto/dead-letters.md.

letter.py parses and builds the topic's records. marks.py computes the state of each letter. filters.py selects letters.
log.py reads the topic. redriving.py redrives and discards. printing.py shows letters without personal data. command.py
is ``nexus dlq``. The workers write dead letters with nexus_stream/delivery/dead_letters.py.
"""
