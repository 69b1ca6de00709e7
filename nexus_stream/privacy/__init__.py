"""Export, erasure and retention of a person's data.

command.py is what an operator calls; people.py and changelog.py find the person; erasing.py asks the enricher and
waits; audit.py notes it, report.py tells it; copies.py says where copies remain; states.py is what a session becomes;
retention.py sweeps idle sessions.
"""
