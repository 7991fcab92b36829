"""FT-standard: fine-tuning on clean pictures, as MMCoA's tables have it."""
