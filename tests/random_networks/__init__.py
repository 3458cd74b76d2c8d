"""Random small networks: one generator for the property tests and for the benchmark of ten thousand."""

from tests.random_networks.choices import Choices, drawn, replayed, seeded
from tests.random_networks.network import Grown, Network, from_numbers, from_seed, grow

__all__ = ["Choices", "Grown", "Network", "drawn", "from_numbers", "from_seed", "grow", "replayed", "seeded"]
