"""At-least-once delivery without Faust: finished offsets, bounds on pending work, and the outcome of each record.

Nothing here imports Faust. ``received`` -> ``ledger`` + ``bounds`` -> ``settling`` (ordered by ``ordering``) ->
``outcomes`` -> ``dead_letters``. A worker implements ``ports``.
"""
