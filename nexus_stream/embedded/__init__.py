"""An embedded Kafka-compatible broker and PostgreSQL, both from wheels, and ``nexus dev``, which runs everything."""
