"""FT-Clean: contrastive fine-tuning on clean pictures, a control."""
