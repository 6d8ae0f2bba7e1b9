"""From a token to a grant: what its bearer may publish and subscribe to."""
