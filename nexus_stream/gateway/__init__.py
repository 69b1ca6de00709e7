"""HTTP in, Kafka out: the process that websites post their conversations to."""
