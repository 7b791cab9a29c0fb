"""What is done to samples in training so that a model learns more from them."""
