"""The method `probe`: a regularised linear model on the frozen encoder's vectors of the texts."""
