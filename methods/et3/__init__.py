"""ET3: an image moves to where the model's energy is lower before it is classified."""
