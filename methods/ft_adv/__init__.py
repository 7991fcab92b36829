"""FT-Adv.: FT-Clean's loss on adversarial pictures."""
