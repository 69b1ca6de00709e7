"""Export, erasure and retention of a person's data.

command.py is the operator's command. people.py and changelog.py find the person. erasing.py sends commands to the
enricher and waits. audit.py records each request. report.py prints the result. copies.py lists the copies that remain.
retention.py expires idle sessions.
"""
