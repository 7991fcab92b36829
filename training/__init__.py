"""The one training room: loop, resume, inner maximisation, recipes, samples, checkpoints."""
