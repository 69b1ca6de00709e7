"""Read many conversations at half price: send them in Message Batches, and put them with their answers on the topic."""
