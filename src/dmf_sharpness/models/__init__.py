"""Deep linear networks as people train them: modules, biases, frozen and tied layers, data in rows."""
