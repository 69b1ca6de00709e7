"""The common parts of the two Faust apps."""
