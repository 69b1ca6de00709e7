"""HTTP in, Kafka out: websites post their conversations to this process."""
