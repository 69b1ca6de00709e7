"""Read many conversations at half price: Message Batches in, answered conversations onto the topic."""
