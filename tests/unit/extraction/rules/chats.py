"""Short chats for tests: a turn of the assistant starts with ``>``."""

from nexus_stream.extraction.extractor import Turn
from nexus_stream.extraction.rules.names import find_name
from nexus_stream.extraction.text import user_turns


def chat(*contents):
    return [
        Turn("assistant", content[1:].strip()) if content.startswith(">") else Turn("user", content)
        for content in contents
    ]


def name_in(*contents):
    found = find_name(user_turns(chat(*contents)))
    return found.text if found else None
