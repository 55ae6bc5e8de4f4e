"""Where weights, gradients and optimizer state live, on one device and on replicas."""
