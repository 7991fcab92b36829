"""Where candidates for a word come from: a masked language model, WordNet, or edits of its characters."""
