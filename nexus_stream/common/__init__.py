"""Small parts that several rooms share, and that know nothing of the product."""
