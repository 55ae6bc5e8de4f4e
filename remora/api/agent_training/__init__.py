"""Training an agent: labels, imitation, reinforcement learning, rounds of self-imitation."""
