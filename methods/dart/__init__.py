"""DART: a model adapted to an unlabelled domain first, made robust there afterwards."""
