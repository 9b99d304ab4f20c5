"""One readable page per result: the model and the training that give it."""
