"""What the two Faust apps share."""
