"""AdvPT: a text context learned on a bank of attacked embeddings."""
