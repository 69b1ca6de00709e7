"""A Kafka-compatible broker and a PostgreSQL from wheels, and ``nexus dev``, which runs everything on them."""
