"""Attacks on images: ball projections, PGD, AutoAttack, adaptive parts, indicators of failure."""
