"""General parts of adaptive attacks: straight-through gradients, expectation over transformation."""
