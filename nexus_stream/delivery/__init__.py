"""At-least-once delivery owned by us: which offsets are finished, what may wait, what a record became.

Nothing here imports Faust. ``received`` -> ``ledger`` + ``bounds`` -> ``settling`` (ordered by ``ordering``) ->
``outcomes`` -> ``dead_letters``; ``ports`` says what a worker must provide.
"""
