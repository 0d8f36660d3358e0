"""Deep linear networks: factors, their products and derivatives, and the balance of the layers."""
