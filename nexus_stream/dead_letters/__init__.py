"""Dead letters as an operator uses them: list, show, redrive, discard; docs/howto/dead-letters.md.

letter.py reads and writes the topic's records, marks.py folds them to a state a letter, filters.py chooses, log.py is
the topic itself, redriving.py sends back and sets aside, printing.py shows without personal data, command.py is
``nexus dlq``. What the workers write is nexus_stream/delivery/dead_letters.py.
"""
